//! How long a gRPC caller will wait.

use std::time::Duration;

use http::Request;

/// The longest deadline that `grpc-timeout` can name is eight digits of hours; more than a day is as good as none.
const DEADLINE_MAX: Duration = Duration::from_secs(24 * 3600);

/// How long the caller will wait, as `grpc-timeout` says it.
pub(super) fn deadline<B>(request: &Request<B>) -> Duration {
    let said = request.headers().get("grpc-timeout");
    said.and_then(|said| timeout(said.to_str().ok()?))
        .unwrap_or(DEADLINE_MAX)
        .min(DEADLINE_MAX)
}

/// At most eight digits and a unit.
fn timeout(said: &str) -> Option<Duration> {
    let (digits, unit) = said.split_at_checked(said.len().checked_sub(1)?)?;
    if digits.len() > 8 {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number.saturating_mul(3600)),
        "M" => Duration::from_secs(number.saturating_mul(60)),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_read_in_every_unit() {
        for (said, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("50S", Some(Duration::from_secs(50))),
            ("100m", Some(Duration::from_millis(100))),
            ("99999999u", Some(Duration::from_micros(99_999_999))),
            ("1n", Some(Duration::from_nanos(1))),
            ("123456789S", None),
            ("S", None),
            ("", None),
            ("5x", None),
            ("-1S", None),
        ] {
            assert_eq!(timeout(said), expected, "{said}");
        }
    }
}
