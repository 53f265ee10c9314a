//! Asking a provider how a job stands.

use ledger::{NewObject, OpenJob};
use proxy::Pool;
use tracing::warn;

use super::{Asked, Ended, Job, JobFacts, Look, Priced, look, price_of};
use crate::{endpoint::Kind, gateway::Gateway};

/// How a job has ended; `None` while it goes on.
///
/// # Errors
/// When there is no answer to go by.
pub(crate) async fn ask(
    gateway: &Gateway,
    pool: &Pool,
    job: &OpenJob,
) -> Result<Option<Ended>, Asked> {
    let catalog = gateway.ledger.catalog();
    let facts: JobFacts = serde_json::from_str(&job.facts).unwrap_or_default();
    let priced = Priced {
        quote: catalog.book().quote(&job.model, job.started_at_ms),
        catalog: &catalog,
        model: &job.model,
        started_at_ms: job.started_at_ms,
        price: price_of(&facts),
    };
    let own = Job {
        kind: &job.kind,
        object: &job.object_id,
        endpoint: &job.endpoint,
        facts,
        held: job.held.money,
        upstream: job.upstream,
        upstream_key: job.upstream_key,
        age_ms: u32::try_from(job.age_ms).unwrap_or(u32::MAX),
    };
    let place = gateway
        .places
        .home(&catalog, job.upstream, job.upstream_key);
    let place = place.map_err(|_| Asked::Failed("its upstream is not set up".into()))?;
    let Look { files, ended } = look((pool, &*place), &priced, &own).await?;
    note(gateway, job, files).await;
    Ok(ended)
}

/// The files that it has made are its client's.
async fn note(gateway: &Gateway, job: &OpenJob, files: Vec<String>) {
    let files = files.into_iter().map(|id| NewObject {
        id,
        kind: Kind::File.name().into(),
        account: job.account,
        token: job.token,
        upstream: job.upstream,
        upstream_key: job.upstream_key,
        model: None,
        parent: Some(job.object_id.clone()),
        facts: None,
        kept: None,
    });
    let files: Vec<NewObject> = files.collect();
    if let Err(error) = gateway.ledger.record_objects(&files).await {
        warn!(%error, "job.files_not_noted: they are when its client asks for the job");
    }
}
