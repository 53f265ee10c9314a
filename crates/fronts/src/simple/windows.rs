//! Calls per second, minute and hour of one address, in windows that begin with their first call.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Calls per window; 0 is no limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) per_second: u32,
    pub(super) per_minute: u32,
    pub(super) per_hour: u32,
}

/// The open windows of every address.
pub(super) struct Windows {
    /// Shortest first: the order in which they are asked.
    limits: [(Duration, u32); 3],
    open: Mutex<HashMap<Key, [Option<Window>; 3]>>,
}

/// GET and POST are counted apart.
type Key = (IpAddr, bool);

#[derive(Clone, Copy)]
struct Window {
    began: Instant,
    calls: u32,
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Addresses remembered; beyond it, those whose windows are over are forgotten, and if none is, all.
const ADDRESSES_MAX: usize = 65_536;

impl Windows {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits: [
                (SECOND, limits.per_second),
                (MINUTE, limits.per_minute),
                (HOUR, limits.per_hour),
            ],
            open: Mutex::default(),
        }
    }

    /// Counts a call, or says how long the window lasts that is full. A window that is asked is charged, one behind a
    /// full one is not asked, and a refused call makes no window longer.
    pub(super) fn admit(
        &self,
        address: IpAddr,
        is_get: bool,
        now: Instant,
    ) -> Result<(), Duration> {
        if self.limits.iter().all(|(_, most)| *most == 0) {
            return Ok(());
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= ADDRESSES_MAX {
            self.forget(&mut open, now);
        }
        let windows = open.entry((network(address), is_get)).or_default();
        for ((length, most), window) in self.limits.iter().zip(windows) {
            if *most == 0 {
                continue;
            }
            let current = window.filter(|window| now.duration_since(window.began) < *length);
            let mut current = current.unwrap_or(Window {
                began: now,
                calls: 0,
            });
            current.calls = current.calls.saturating_add(1);
            *window = Some(current);
            if current.calls > *most {
                return Err(length.saturating_sub(now.duration_since(current.began)));
            }
        }
        Ok(())
    }

    fn forget(&self, open: &mut HashMap<Key, [Option<Window>; 3]>, now: Instant) {
        open.retain(|_, windows| {
            self.limits
                .iter()
                .zip(windows)
                .any(|((length, _), window)| {
                    window.is_some_and(|window| now.duration_since(window.began) < *length)
                })
        });
        if open.len() >= ADDRESSES_MAX {
            open.clear();
        }
    }
}

/// Whoever has one address of version 6 has 2^64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        per_second: 1,
        per_minute: 3,
        per_hour: 4,
    };

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn the_shortest_full_window_answers_and_spares_the_longer_ones() {
        let windows = Windows::new(LIMITS);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(windows.admit(address(1), false, at(0)), Ok(()));
        assert_eq!(windows.admit(address(1), false, at(0)), Err(SECOND));
        assert_eq!(windows.admit(address(1), false, at(1)), Ok(()));
        assert_eq!(windows.admit(address(1), false, at(2)), Ok(()));
        // The minute began at 0 and has its three; what was refused by the second did not count in it.
        assert_eq!(
            windows.admit(address(1), false, at(10)),
            Err(Duration::from_secs(50))
        );
        assert_eq!(windows.admit(address(1), false, at(60)), Ok(()));
        assert_eq!(
            windows.admit(address(1), false, at(62)),
            Err(Duration::from_secs(3600 - 62))
        );
    }

    #[test]
    fn addresses_and_methods_are_counted_apart_and_networks_of_version_6_together() {
        let windows = Windows::new(LIMITS);
        let now = Instant::now();
        let six = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(windows.admit(address(1), false, now), Ok(()));
        assert_eq!(windows.admit(address(2), false, now), Ok(()));
        assert_eq!(windows.admit(address(1), true, now), Ok(()));
        assert_eq!(windows.admit(six("2001:db8::1"), false, now), Ok(()));
        assert_eq!(windows.admit(six("2001:db8::2"), false, now), Err(SECOND));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let windows = Windows::new(LIMITS);
        let now = Instant::now();
        for number in 0..=ADDRESSES_MAX as u32 {
            let _ = windows.admit(IpAddr::from(number.to_be_bytes()), false, now);
        }
        assert!(windows.open.lock().unwrap().len() <= ADDRESSES_MAX);
    }
}
