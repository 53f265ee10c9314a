//! What the doctor sees of this machine: the data directory, descriptors, the certificate.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use ledger::blackbox::{self, BlackBox};
use rustix::{
    fs::{Access, access, statvfs},
    process::{Resource, getrlimit},
};

use super::Finding;
use crate::{
    certificate::ends,
    fatal::chain,
    settings::{Listen, Settings},
    startup,
};

/// Descriptors for everything but clients and upstreams: Postgres, the journal, listeners, logs.
const DESCRIPTORS_BESIDE: u64 = 256;
/// A certificate that ends earlier than this should have been renewed.
const CERTIFICATE_LEFT_MIN: Duration = Duration::from_secs(14 * DAY_SECONDS);
const DAY_SECONDS: u64 = 24 * 60 * 60;

/// Everything that needs no database.
pub(super) fn look(settings: &Settings) -> Vec<Finding> {
    let dir = startup::data_dir(&settings.database);
    let mut findings = Vec::new();
    if settings.database.journal_bytes_max > 0 {
        match data_dir(&dir, settings.database.journal_bytes_max) {
            Ok(found) => {
                findings.extend(found);
                findings.extend(left(&dir));
            }
            Err(finding) => findings.push(finding),
        }
    }
    findings.extend(descriptors(settings));
    findings.extend(certificate(&settings.listen));
    findings
}

/// Whether the journal can be made and grow. Makes nothing: of a directory that is not there yet, the nearest one that is
/// must take it.
///
/// # Errors
/// What is wrong, where nothing more can be looked at.
fn data_dir(dir: &Path, journal_bytes_max: u64) -> Result<Option<Finding>, Finding> {
    let unusable = |why: &dyn std::fmt::Display| {
        Finding::broken(
            "machine.data_dir",
            format!("DATA_DIR {} cannot be written to: {why}", dir.display()),
            "make it, let the gateway's user write to it (in a container: a volume), or name another; JOURNAL_BYTES_MAX=0 does without",
        )
    };
    let there = dir
        .ancestors()
        .find(|path| path.symlink_metadata().is_ok())
        .ok_or_else(|| unusable(&"no part of it exists"))?;
    if !there.is_dir() {
        return Err(unusable(&format!("{} is no directory", there.display())));
    }
    access(there, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| unusable(&error))?;
    let room = statvfs(there).map_err(|error| unusable(&error))?;
    let free = room.f_bavail.saturating_mul(room.f_frsize);
    Ok((free < journal_bytes_max).then(|| {
        Finding::risk(
            "machine.disk",
            format!(
                "{} has {free} bytes free, and the journal may take {journal_bytes_max}",
                there.display()
            ),
            "free some, move DATA_DIR, or make JOURNAL_BYTES_MAX smaller",
        )
    }))
}

/// What processes that died left here, for each database that was served.
fn left(data_dir: &Path) -> Vec<Finding> {
    match blackbox::ledgers(data_dir) {
        Ok(places) => places.iter().flat_map(|place| left_at(place)).collect(),
        Err(error) => vec![unseen(&error)],
    }
}

fn unseen(error: &(dyn std::error::Error + 'static)) -> Finding {
    Finding::note(
        "machine.black_box",
        format!(
            "what earlier processes left cannot be looked into: {}",
            chain(error)
        ),
        "run the doctor as the gateway's user",
    )
}

fn left_at(dir: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    match BlackBox::deserted(dir) {
        Ok(deserted) => findings.extend(deserted.iter().map(|it| {
            Finding::risk(
                "machine.black_box",
                format!(
                    "a process that died left {} (journal: {} bytes): charges may wait in it",
                    it.path.display(),
                    it.journal_bytes
                ),
                "start Turnpike on this DATA_DIR and its database: it replays the journal and settles what was open; do not delete it before",
            )
        })),
        Err(error) => findings.push(unseen(&error)),
    }
    let damaged = dir.join("damaged");
    let count = fs::read_dir(&damaged).map_or(0, Iterator::count);
    if count > 0 {
        findings.push(Finding::risk(
            "machine.damaged",
            format!("{} has {count} files that could not be read: charges may be lost", damaged.display()),
            "compare with the provider (`turnpike reconcile`), correct with turnpike.top_up(), then move them away",
        ));
    }
    findings
}

fn descriptors(settings: &Settings) -> Option<Finding> {
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let (clients, exchanges) = (
        count(settings.listen.connections_max.get()),
        count(settings.exchange.open_exchanges_max.get()),
    );
    // Every exchange has a connection to its upstream as well.
    let needed = clients
        .saturating_add(exchanges)
        .saturating_add(DESCRIPTORS_BESIDE);
    let limit = getrlimit(Resource::Nofile).current?;
    (limit < needed).then(|| {
        Finding::risk(
            "machine.descriptors",
            format!("{limit} file descriptors are allowed here, and CONNECTIONS_MAX={clients} with OPEN_EXCHANGES_MAX={exchanges} may need {needed}"),
            format!("raise it (`ulimit -n {needed}`, LimitNOFILE= in a systemd unit, --ulimit nofile= for a container), or make the settings smaller"),
        )
    })
}

fn certificate(listen: &Listen) -> Option<Finding> {
    let path = listen.tls_cert.as_deref()?;
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    match ends(path) {
        Ok(end) => expiry(path, end.saturating_sub(now)),
        Err(why) => Some(Finding::broken(
            "machine.certificate",
            format!("TLS_CERT {} cannot be used: {why}", path.display()),
            "name a PEM file with the certificate chain, the gateway's own certificate first",
        )),
    }
}

fn expiry(path: &Path, left: Duration) -> Option<Finding> {
    let remedy = "renew it; the gateway takes new files over within seconds";
    if left.is_zero() {
        return Some(Finding::broken(
            "machine.certificate",
            format!("TLS_CERT {} has expired", path.display()),
            remedy,
        ));
    }
    (left < CERTIFICATE_LEFT_MIN).then(|| {
        let days = left.as_secs() / DAY_SECONDS;
        Finding::risk(
            "machine.certificate",
            format!("TLS_CERT {} expires in {days} days", path.display()),
            remedy,
        )
    })
}

#[cfg(test)]
mod tests {
    use super::{super::Level, *};

    #[test]
    fn a_certificate_is_to_be_renewed_two_weeks_before_its_end() {
        let level = |days: u64| {
            let left = Duration::from_secs(days * DAY_SECONDS);
            expiry(Path::new("c.pem"), left).map(|finding| finding.level)
        };
        assert_eq!(level(0), Some(Level::Broken));
        assert_eq!(level(1), Some(Level::Risk));
        assert_eq!(level(14), None);
    }
}
