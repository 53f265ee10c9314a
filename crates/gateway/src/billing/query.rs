//! What the dashboard's questions may ask for.

use jiff::{civil::Date, tz::TimeZone};

use crate::refusal::Refusal;

/// Seconds of a day.
pub(super) const DAY_S: i64 = 24 * 60 * 60;
/// The longest time told in one answer, in days.
const DAYS_MAX: i64 = 400;
/// Buckets in a page unless `limit` says otherwise; OpenAI's default.
const BUCKETS_DEFAULT: i64 = 7;
/// Most buckets in a page.
const BUCKETS_MAX: i64 = 180;

/// A query's pairs, decoded, in their order.
pub(super) struct Query(Vec<(String, String)>);

/// One page of buckets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Page {
    /// Midnight of its first day, seconds since the epoch.
    pub(super) since_s: i64,
    /// Midnight after its last.
    pub(super) until_s: i64,
    /// Midnight after the last day of all; more than `until_s` where another page follows.
    pub(super) end_s: i64,
    /// What results are told apart by.
    pub(super) group_by: Vec<String>,
}

impl Query {
    pub(super) fn parse(query: &str) -> Self {
        Self(
            form_urlencoded::parse(query.as_bytes())
                .into_owned()
                .collect(),
        )
    }

    pub(super) fn last(&self, name: &str) -> Option<&str> {
        let mut pairs = self.0.iter().rev();
        pairs
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// `start_date` and `end_date`, as midnights in seconds since the epoch: from the first of this month to today, unless given.
    /// The end is not told any more.
    pub(super) fn dates(&self, now_s: i64) -> Result<(i64, i64), Refusal> {
        let day = |name: &'static str| {
            self.last(name)
                .map(|text| {
                    let date = text.parse::<Date>().ok();
                    let midnight = date.and_then(|date| date.to_zoned(TimeZone::UTC).ok());
                    midnight
                        .map(|midnight| midnight.timestamp().as_second())
                        .ok_or_else(|| invalid(name, "is no date such as 2026-11-01"))
                })
                .transpose()
        };
        let tomorrow = midnight(now_s).saturating_add(DAY_S);
        let since = day("start_date")?.unwrap_or_else(|| first_of_month(now_s));
        let until = day("end_date")?.unwrap_or(tomorrow);
        between("end_date", since, until)
    }

    /// `start_time`, `end_time`, `bucket_width`, `limit`, `page` and `group_by` of OpenAI's organization endpoints.
    pub(super) fn page(&self, groups: &[&str], now_s: i64) -> Result<Page, Refusal> {
        let number = |name: &'static str| {
            self.last(name)
                .map(|text| {
                    text.parse::<i64>()
                        .ok()
                        .filter(|number| (0..=253_402_300_799).contains(number))
                        .ok_or_else(|| invalid(name, "is no number of seconds since 1970"))
                })
                .transpose()
        };
        if self.last("bucket_width").is_some_and(|width| width != "1d") {
            return Err(invalid("bucket_width", "can only be 1d here"));
        }
        let start = number("start_time")?
            .ok_or_else(|| invalid("start_time", "is missing: give seconds since 1970"))?;
        let end = number("end_time")?.unwrap_or_else(|| now_s.saturating_add(1));
        let limit = match self.last("limit") {
            None => BUCKETS_DEFAULT,
            Some(text) => text
                .parse()
                .ok()
                .filter(|limit| (1..=BUCKETS_MAX).contains(limit))
                .ok_or_else(|| invalid("limit", "is no number from 1 to 180"))?,
        };
        let since_s = match self.last("page") {
            None => midnight(start),
            // Our own `next_page`: the midnight at which it begins.
            Some(text) => text
                .strip_prefix("page_")
                .and_then(|text| text.parse().ok())
                .filter(|at| midnight(*at) == *at && *at >= midnight(start))
                .ok_or_else(|| invalid("page", "is none that next_page named"))?,
        };
        let last_day = midnight(end.saturating_sub(1));
        let (_, end_s) = between("end_time", midnight(start), last_day.saturating_add(DAY_S))?;
        if since_s > end_s {
            return Err(invalid("page", "is none that next_page named"));
        }
        let until_s = end_s.min(since_s.saturating_add(limit.saturating_mul(DAY_S)));
        let mut group_by = Vec::new();
        let named = self
            .0
            .iter()
            .filter(|(name, _)| matches!(name.as_str(), "group_by" | "group_by[]"));
        for group in named.flat_map(|(_, value)| value.split(',')) {
            if !groups.contains(&group) {
                let allowed = groups.join(", ");
                return Err(invalid("group_by", &format!("can be {allowed} here")));
            }
            group_by.push(group.to_owned());
        }
        Ok(Page {
            since_s,
            until_s,
            end_s,
            group_by,
        })
    }
}

impl Page {
    /// Whether results are told apart by this.
    pub(super) fn is_by(&self, group: &str) -> bool {
        self.group_by.iter().any(|known| known == group)
    }

    /// The midnights of its days.
    pub(super) fn days(&self) -> impl Iterator<Item = i64> {
        let until_s = self.until_s;
        std::iter::successors(Some(self.since_s), |day| day.checked_add(DAY_S))
            .take_while(move |day| *day < until_s)
    }
}

fn between(name: &'static str, since: i64, until: i64) -> Result<(i64, i64), Refusal> {
    if until <= since {
        return Err(invalid(name, "is not after the start"));
    }
    if until.saturating_sub(since) > DAYS_MAX.saturating_mul(DAY_S) {
        return Err(invalid(name, "is more than 400 days after the start"));
    }
    Ok((since, until))
}

fn midnight(at_s: i64) -> i64 {
    at_s.div_euclid(DAY_S).saturating_mul(DAY_S)
}

fn first_of_month(now_s: i64) -> i64 {
    jiff::Timestamp::from_second(now_s)
        .ok()
        .and_then(|now| now.to_zoned(TimeZone::UTC).first_of_month().ok())
        .map_or(0, |first| midnight(first.timestamp().as_second()))
}

pub(super) fn invalid(param: &str, what: &str) -> Refusal {
    Refusal::InvalidBody {
        message: format!("'{param}' {what}."),
        param: Some(param.to_owned()),
        code: "invalid_value",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_824_000 + 40_000;

    #[test]
    fn dates_are_days_and_their_default_is_this_month() {
        let dates = |query| Query::parse(query).dates(NOW);
        let (since, until) = dates("").unwrap();
        assert_eq!(until, 1_795_824_000 + DAY_S);
        assert_eq!((until - since) / DAY_S, 28, "2026-11-01 to 2026-11-28");
        assert_eq!(
            dates("start_date=2026-11-27&end_date=2026-11-28").unwrap(),
            (1_795_824_000 - DAY_S, 1_795_824_000)
        );
        for wrong in [
            "start_date=27.11.2026",
            "start_date=2026-11-28&end_date=2026-11-28",
            "start_date=2024-01-01&end_date=2026-01-01",
        ] {
            assert!(dates(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn pages_follow_one_another_without_a_gap() {
        let start = 1_795_824_000 - 9 * DAY_S + 5;
        let page = |more: &str| {
            let query = format!("start_time={start}{more}");
            Query::parse(&query).page(&["model"], NOW)
        };
        let first = page("").unwrap();
        assert_eq!(first.days().count(), 7);
        let second = page(&format!("&page=page_{}", first.until_s)).unwrap();
        assert_eq!(second.since_s, first.until_s);
        assert_eq!(second.until_s, second.end_s);
        assert_eq!(second.days().count(), 3);
        assert!(page("&group_by[]=model").unwrap().is_by("model"));
        for wrong in [
            "&group_by=user",
            "&limit=0",
            "&limit=181",
            "&page=page_7",
            "&page=page_9223372036854720000",
            "&page=x",
            "&bucket_width=1m",
            "&end_time=-1",
            "&end_time=5",
        ] {
            assert!(page(wrong).is_err(), "{wrong}");
        }
        assert!(Query::parse("").page(&[], NOW).is_err());
    }
}
