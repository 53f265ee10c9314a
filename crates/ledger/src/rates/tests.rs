//! Subjects, and how many of them are remembered.

use super::*;

#[test]
fn a_peer_is_its_v4_address_or_its_v6_slash_64() {
    let named = |address: &str| Subject::address(address.parse().unwrap()).to_string();
    assert_eq!(named("192.0.2.7"), "address:192.0.2.7");
    assert_eq!(named("::ffff:192.0.2.7"), "address:192.0.2.7");
    assert_eq!(named("2001:db8:1:2:3:4:5:6"), "address:2001:db8:1:2::/64");
    assert_eq!(named("2001:db8:1:2::1"), named("2001:db8:1:2:ffff::"));
    assert_eq!(Subject::Token(TokenId(17)).to_string(), "token:17");
}

#[tokio::test]
async fn a_flood_of_addresses_does_not_grow_memory() {
    let (rates, _queued) = Rates::new();
    rates.0.away.store(true, Relaxed);
    let limits = RateLimits {
        requests_per_minute: Some(1),
        concurrent_exchanges: Some(1),
        ..RateLimits::default()
    };
    let addresses = u32::try_from(SUBJECTS_MAX).unwrap() + 2_000;
    for address in 0..addresses {
        let subject = Subject::address(IpAddr::from(address.to_be_bytes()));
        drop(rates.admit(subject, &limits).await.unwrap());
    }
    let remembered: usize = rates
        .0
        .shards
        .iter()
        .map(|shard| shard.lock().unwrap().len())
        .sum();
    assert!(remembered <= SUBJECTS_MAX, "{remembered}");
    // Who was there a moment ago is still counted.
    let last = Subject::address(IpAddr::from((addresses - 1).to_be_bytes()));
    rates.admit(last, &limits).await.unwrap_err();
}
