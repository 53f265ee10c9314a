//! The certificate that clients are shown: taken over when its files change, so that renewing it needs no restart.

use std::{io, path::Path, sync::Arc, time::Duration};

use prometheus_client::metrics::gauge::Gauge;
use proxy::tls::{Certificate, TlsError};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};
use tracing::{error, info};
use x509_cert::der::Decode as _;

use crate::fatal::{Code, Fatal, chain};

/// How often the files are read.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Reads the certificate that `TLS_CERT` and `TLS_KEY` name, if they are set.
///
/// # Errors
/// When the files do not make a server.
pub(crate) fn read(
    chain: Option<&Path>,
    key: Option<&Path>,
) -> Result<Option<Arc<Certificate>>, Fatal> {
    let (Some(chain), Some(key)) = (chain, key) else {
        return Ok(None);
    };
    Certificate::read(chain, key).map(Some).map_err(|error| {
        Fatal::because(Code::NoInput, "TLS_CERT and TLS_KEY cannot be used", &error)
    })
}

/// SIGHUP, which would end a program that does not listen for it.
///
/// # Errors
/// When the system does not let us.
pub(crate) fn hangup() -> Result<Signal, Fatal> {
    signal(SignalKind::hangup())
        .map_err(|error| Fatal::because(Code::System, "signals cannot be heard", &error))
}

/// Follows the files for as long as the program runs: every few seconds, and at once on SIGHUP.
pub(crate) async fn follow(
    certificate: Option<Arc<Certificate>>,
    mut hangup: Signal,
    expires_at: Gauge,
) {
    let Some(certificate) = certificate else {
        while hangup.recv().await.is_some() {
            info!(
                "SIGHUP: there is no TLS_CERT to read again; everything else is told by Postgres"
            );
        }
        return;
    };
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut trouble = Trouble::default();
    loop {
        expires_at.set(end_seconds(&certificate.leaf()).unwrap_or_default());
        let is_asked = tokio::select! {
            _ = ticks.tick() => false,
            Some(()) = hangup.recv() => true,
        };
        let reading = Arc::clone(&certificate);
        match spawn_blocking(move || reading.read_again()).await {
            Ok(Ok(true)) => {
                info!(
                    "certificate.renewed: new connections get the certificate that TLS_CERT has now"
                );
            }
            Ok(Ok(false)) if is_asked => {
                info!("SIGHUP: TLS_CERT has the certificate that is in use");
            }
            Ok(Err(why)) => {
                trouble.tell(&why, is_asked);
                continue;
            }
            // A reader that panicked has said so.
            Ok(Ok(false)) | Err(_) => {}
        }
        trouble = Trouble::default();
    }
}

/// Files that cannot be used. Who writes certificate and key one after the other leaves a moment in which they do not fit: so it is told
/// when it was met twice, and then once.
#[derive(Default)]
struct Trouble {
    met: bool,
    told: Option<String>,
}

impl Trouble {
    fn tell(&mut self, why: &TlsError, is_asked: bool) {
        let why = chain(why);
        let is_news = self.told.as_ref() != Some(&why);
        if is_asked || (self.met && is_news) {
            error!(
                reason = why,
                "certificate.unusable: clients get the certificate of before; put the right files in place"
            );
            self.told = Some(why);
        }
        self.met = true;
    }
}

/// When the certificate in this file ends, since the epoch.
pub(crate) fn ends(path: &Path) -> io::Result<Duration> {
    use rustls::pki_types::{CertificateDer, pem::PemObject as _};
    let der = CertificateDer::from_pem_file(path).map_err(io::Error::other)?;
    end(&der).ok_or_else(|| io::Error::other("its first certificate cannot be read"))
}

fn end_seconds(der: &[u8]) -> Option<i64> {
    i64::try_from(end(der)?.as_secs()).ok()
}

fn end(der: &[u8]) -> Option<Duration> {
    let certificate = x509_cert::Certificate::from_der(der).ok()?;
    Some(
        certificate
            .tbs_certificate
            .validity
            .not_after
            .to_unix_duration(),
    )
}
