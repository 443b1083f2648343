//! Tests of the cache: how long answers are kept, for whom, and that there are never too many.

use std::net::Ipv4Addr;

use hickory_proto::op::{Edns, Query};
use hickory_proto::rr::rdata::{A, SOA};
use hickory_proto::rr::{Name, RecordType};
use proptest::prelude::*;

use super::*;

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn query(text: &str) -> Message {
    let mut query = Message::query();
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(name(text), RecordType::A));
    query
}

/// An answer with an address for each lifetime given.
fn answer(query: &Message, seconds: &[u32]) -> Message {
    let mut answer = query.clone().into_response();
    for ttl in seconds {
        let data = RData::A(A(Ipv4Addr::new(203, 0, 113, 1)));
        answer.add_answer(Record::from_rdata(
            query.queries[0].name.clone(),
            *ttl,
            data,
        ));
    }
    answer
}

fn denial(query: &Message, code: ResponseCode, ttl: u32, minimum: u32) -> Message {
    let mut answer = query.clone().into_response();
    answer.metadata.response_code = code;
    let soa = SOA::new(
        name("ns.example."),
        name("me.example."),
        1,
        2,
        3,
        4,
        minimum,
    );
    answer.add_authority(Record::from_rdata(name("example."), ttl, RData::SOA(soa)));
    answer
}

/// Whether the answer is still given after some seconds, and the first record's lifetime then.
fn after(answer: &Message, seconds: u64) -> Option<u32> {
    let (mut cache, start) = (Cache::default(), Instant::now());
    let query = query("www.example.");
    let key = key(&query).unwrap();
    cache.put(key.clone(), &answer.to_vec().unwrap(), start);
    let got = cache.get(&key, &query, start + Duration::from_secs(seconds))?;
    let record = got.answers.first().or(got.authorities.first())?;
    Some(record.ttl)
}

#[test]
fn lifetimes_are_respected() {
    let query = query("www.example.");
    let (yes, no) = (ResponseCode::NoError, ResponseCode::NXDomain);
    let mut truncated = answer(&query, &[60]);
    truncated.metadata.truncation = true;
    let mut refused = answer(&query, &[60]);
    refused.metadata.response_code = ResponseCode::Refused;
    let mut bare_denial = denial(&query, no, 60, 60);
    bare_denial.authorities.clear();
    for (what, answer, seconds, expected) in [
        ("at once", answer(&query, &[10]), 0, Some(10)),
        ("later", answer(&query, &[10]), 9, Some(1)),
        ("over", answer(&query, &[10]), 10, None),
        ("the shortest counts", answer(&query, &[25, 5]), 5, None),
        (
            "no longer than half a minute",
            answer(&query, &[3600]),
            30,
            None,
        ),
        (
            "but with its own lifetime",
            answer(&query, &[3600]),
            29,
            Some(3571),
        ),
        ("not for a moment", answer(&query, &[0]), 0, None),
        (
            "a denial by its SOA",
            denial(&query, no, 60, 20),
            19,
            Some(41),
        ),
        ("a denial's minimum", denial(&query, no, 60, 20), 20, None),
        ("a denial's own", denial(&query, no, 5, 20), 5, None),
        ("no such type", denial(&query, yes, 60, 20), 19, Some(41)),
        ("a denial without SOA", bare_denial, 0, None),
        ("cut", truncated, 0, None),
        ("a failure", refused, 0, None),
    ] {
        assert_eq!(after(&answer, seconds), expected, "{what}");
    }
}

#[test]
fn an_answer_is_for_the_same_question_in_the_askers_spelling() {
    let (mut cache, now) = (Cache::default(), Instant::now());
    let first = query("www.example.");
    let bytes = answer(&first, &[20]).to_vec().unwrap();
    cache.put(key(&first).unwrap(), &bytes, now);

    let mut again = query("wWw.ExAmple.");
    again.metadata.id = 7;
    let got = cache.get(&key(&again).unwrap(), &again, now).unwrap();
    assert_eq!(got.metadata.id, 7);
    assert_eq!(got.queries[0].name.to_ascii(), "wWw.ExAmple.");

    let mut others = vec![
        query("other.example."),
        query("www.example."),
        query("www.example."),
    ];
    others[1].queries[0].query_type = RecordType::AAAA;
    others[2].metadata.checking_disabled = true;
    let mut extended = query("www.example.");
    extended.set_edns(Edns::new());
    others.push(extended.clone());
    extended.edns.as_mut().unwrap().set_dnssec_ok(true);
    others.push(extended);
    for other in others {
        let key = key(&other).unwrap();
        assert!(cache.get(&key, &other, now).is_none(), "{other:?}");
    }
    let mut cookie = query("www.example.");
    let mut edns = Edns::new();
    edns.options_mut()
        .insert(hickory_proto::rr::rdata::opt::EdnsOption::Unknown(
            10,
            vec![1; 8],
        ));
    cookie.set_edns(edns);
    assert!(key(&cookie).is_none(), "what is said to one asker");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn it_is_bounded(names in prop::collection::vec(0..6000u32, 5000), records in 1..20usize) {
        let (mut cache, now) = (Cache::default(), Instant::now());
        for number in names {
            let query = query(&format!("n{number}.example."));
            let bytes = answer(&query, &vec![60; records]).to_vec().unwrap();
            cache.put(key(&query).unwrap(), &bytes, now);
        }
        prop_assert!(cache.entries.len() <= ANSWERS_MAX && cache.bytes <= BYTES_MAX);
        prop_assert_eq!(cache.entries.len(), cache.order.len());
        prop_assert_eq!(cache.bytes, cache.entries.values().map(|entry| entry.bytes).sum::<usize>());
    }

    #[test]
    fn any_answer_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let query = query("www.example.");
        let key = key(&query).unwrap();
        cache.put(key.clone(), &bytes, now);
        let _ = cache.get(&key, &query, now);
    }
}
