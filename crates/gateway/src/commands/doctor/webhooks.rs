//! What the doctor thinks of webhooks: whoever relies on being told should know that he is not.

use ledger::{LedgerError, admin::Admin};

use super::Finding;

pub(super) async fn look(admin: &Admin) -> Result<Vec<Finding>, LedgerError> {
    let rows = admin.webhooks().await?;
    Ok(rows
        .into_iter()
        .filter(|row| row.enabled && (row.failing > 0 || row.given_up > 0))
        .map(|row| {
            let why = row
                .last_error
                .map_or_else(String::new, |why| format!("; last: {why}"));
            Finding::risk(
                "webhooks.failing",
                format!(
                    "webhook {} does not take what it is told: {} deliveries fail, {} were given up in the last week{why}",
                    row.name, row.failing, row.given_up
                ),
                format!(
                    "try it with `turnpike webhook test '{0}'`, and put its address or secret right with `turnpike webhook add '{0}' URL`",
                    row.name
                ),
            )
        })
        .collect())
}
