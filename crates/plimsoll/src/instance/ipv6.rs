//! The IPv6 half of an instance: its ranges, chosen once, and whether they are used now.

use std::net::Ipv6Addr;

use anyhow::{Result, bail};
use ipnet::IpNet;

use super::{Instance, overlap, seed, taken_ranges};
use crate::settings::Settings;

impl Instance {
    /// Takes IPv6 ranges if there is to be IPv6 and there are none yet: also of an instance that was made by a version, or on
    /// a machine, without it.
    pub(super) fn settle_ipv6(&mut self, settings: &Settings) -> Result<()> {
        for (flag, fixed, wanted) in [
            ("podCidr6", self.pod_cidr6, settings.pod_cidr6),
            ("serviceCidr6", self.service_cidr6, settings.service_cidr6),
        ] {
            if let (Some(fixed), Some(wanted)) = (fixed, wanted)
                && wanted.trunc() != fixed
            {
                bail!(
                    "the instance in {} was made with {fixed}; {flag} cannot become {wanted}. Leave it away, or begin anew with `plimsoll down --purge`",
                    self.data_dir.display()
                );
            }
        }
        self.ipv6_off = settings.ipv6 == Some(false);
        if self.ipv6_off || self.pod_cidr6.is_some() || !network::has_ipv6() {
            return Ok(());
        }
        // Before anything is written down that could never start.
        if let Some(pods) = settings.pod_cidr6
            && (pods.prefix_len() > 112
                || 128 - pods.prefix_len() < 32 - self.pod_cidr.prefix_len())
        {
            bail!(
                "--pod-cidr6 {pods} is too small: it must be a /112 or wider, with room for as many addresses as {}",
                self.pod_cidr
            );
        }
        if let Some(services) = settings.service_cidr6
            && !(104..=124).contains(&services.prefix_len())
        {
            bail!("--service-cidr6 {services} must be a /104 to /124");
        }
        let taken = taken_ranges()?;
        for (flag, wanted) in [
            ("--pod-cidr6", settings.pod_cidr6),
            ("--service-cidr6", settings.service_cidr6),
        ] {
            let Some(wanted) = wanted.map(IpNet::V6) else {
                continue;
            };
            if let Some(other) = taken.iter().find(|range| overlap(range, &wanted)) {
                bail!(
                    "{flag} {wanted} overlaps {other}, which this machine uses already (see `ip -6 route`): choose another range, or none to have one chosen"
                );
            }
        }
        let ranges = network::choose_ipv6_ranges(seed(&self.data_dir), &taken)?;
        self.pod_cidr6 = Some(settings.pod_cidr6.unwrap_or(ranges.pod_cidr).trunc());
        let services = settings.service_cidr6.unwrap_or(ranges.service_cidr);
        self.service_cidr6 = Some(services.trunc());
        Ok(())
    }

    /// The bridge's own IPv6 address, if there is IPv6 now.
    pub fn gateway6(&self) -> Option<Ipv6Addr> {
        let ranges = self.ipv6_ranges()?;
        Some(Ipv6Addr::from(u128::from(ranges.pod_cidr.network()) + 1))
    }

    /// The IPv6 ranges, while the machine has IPv6 and nobody has turned it off.
    pub fn ipv6_ranges(&self) -> Option<network::Ipv6Ranges> {
        let ranges = network::Ipv6Ranges {
            pod_cidr: self.pod_cidr6?,
            service_cidr: self.service_cidr6?,
        };
        (!self.ipv6_off && network::has_ipv6()).then_some(ranges)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv6_is_taken_turned_off_and_found_again() {
        let directory = tempfile::Builder::new()
            .prefix("plimsoll-instance-")
            .tempdir()
            .expect("directory");
        let of = |settings: &Settings| Instance::find_or_make(directory.path(), settings);
        let off = Settings {
            ipv6: Some(false),
            ..Settings::default()
        };
        let made = of(&off).expect("made");
        assert_eq!((made.pod_cidr6, made.network().ipv6), (None, None));
        if !network::has_ipv6() {
            return;
        }
        let service_cidr6 = Some("fd00:2::/64".parse().expect("range"));
        let wide = Settings {
            service_cidr6,
            ..Settings::default()
        };
        let refused = of(&wide).expect_err("too wide").to_string();
        assert!(refused.contains("/104 to /124"), "{refused}");
        let on = of(&Settings::default()).expect("turned on");
        let ranges = on.network().ipv6.expect("ranges");
        assert!(ranges.pod_cidr.to_string().starts_with("fd"), "{ranges:?}");
        assert_eq!(
            on.gateway6().map(|ip| ranges.pod_cidr.contains(&ip)),
            Some(true)
        );
        assert_eq!(of(&off).expect("off again").network().ipv6, None);
        let again = of(&Settings::default()).expect("on again");
        assert_eq!(again.network().ipv6, Some(ranges));
        let other = Settings {
            pod_cidr6: Some("fd00:1::/64".parse().expect("range")),
            ..Settings::default()
        };
        let refused = of(&other).expect_err("fixed").to_string();
        assert!(
            refused.contains("podCidr6 cannot become fd00:1::/64"),
            "{refused}"
        );
    }
}
