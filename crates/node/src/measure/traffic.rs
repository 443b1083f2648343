//! What went over network interfaces, as the kernel counts it.

use serde_json::{Value, json};

/// Counters of one interface since it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    pub received_bytes: u64,
    pub received_errors: u64,
    pub sent_bytes: u64,
    pub sent_errors: u64,
}

/// The interfaces of `/proc/PID/net/dev`, without loopback.
pub fn interfaces(text: &str) -> Vec<Interface> {
    text.lines().filter_map(interface).collect()
}

fn interface(line: &str) -> Option<Interface> {
    let (name, counters) = line.split_once(':')?;
    let name = name.trim();
    // bytes packets errs drop fifo frame compressed multicast, then the same of what was sent
    let counters: Vec<u64> = counters
        .split_whitespace()
        .map_while(|field| field.parse().ok())
        .collect();
    (name != "lo").then_some(())?;
    Some(Interface {
        name: name.to_owned(),
        received_bytes: *counters.first()?,
        received_errors: *counters.get(2)?,
        sent_bytes: *counters.get(8)?,
        sent_errors: *counters.get(10)?,
    })
}

/// The interface of the default route, of `/proc/net/route`.
pub fn default_interface(routes: &str) -> Option<&str> {
    routes.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace();
        let name = fields.next()?;
        (fields.next()? == "00000000").then_some(name)
    })
}

/// As summaries have it: the counters of the interface called `first` (else of the first one), then those of each.
pub fn summary(interfaces: &[Interface], first: Option<&str>, time: &str) -> Option<Value> {
    let one = |interface: &Interface| {
        json!({
            "name": interface.name,
            "rxBytes": interface.received_bytes,
            "rxErrors": interface.received_errors,
            "txBytes": interface.sent_bytes,
            "txErrors": interface.sent_errors,
        })
    };
    let mut named = interfaces.iter();
    let named = named.find(|interface| Some(interface.name.as_str()) == first);
    let mut whole = one(named.or(interfaces.first())?);
    whole["time"] = time.into();
    whole["interfaces"] = interfaces.iter().map(one).collect();
    Some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Inter-|   Receive                   |  Transmit
 face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed
    lo: 10 1 0 0 0 0 0 0 10 1 0 0 0 0 0 0
  eth0:1024 9 1 0 0 0 0 0 2048 8 2 0 0 0 0 0
docker0: 5 9 0 0 0 0 0 0 6 8 0 0 0 0 0 0
";

    #[test]
    fn counters_of_interfaces() {
        let found = interfaces(TEXT);
        assert_eq!(found.len(), 2, "{found:?}");
        let whole = summary(&found, Some("docker0"), "T").expect("interfaces");
        assert_eq!(
            (&whole["name"], &whole["rxBytes"]),
            (&json!("docker0"), &json!(5))
        );
        let eth0 = json!({ "name": "eth0", "rxBytes": 1024, "rxErrors": 1, "txBytes": 2048, "txErrors": 2 });
        assert_eq!(whole["interfaces"][0], eth0);
        assert_eq!(
            summary(&found, None, "T").expect("interfaces")["name"],
            "eth0"
        );
        assert_eq!(summary(&[], None, "T"), None);
    }

    #[test]
    fn the_way_out() {
        let routes = "Iface\tDestination\tGateway\nbr0\t0000400A\t0\nens3\t00000000\t0100A8C0\n";
        assert_eq!(default_interface(routes), Some("ens3"));
        assert_eq!(default_interface("Iface\tDestination\n"), None);
    }
}
