//! What front doors want kept, in the ledger.

use fronts::{Away, BoxFuture, Caller, Store, Used};
use ledger::TokenId;

use super::{Doorway, away};

impl Store for Doorway {
    fn used_of_late(
        &self,
        caller: Caller,
        days: i32,
        rows_max: i64,
    ) -> BoxFuture<'_, Result<Vec<Used>, Away>> {
        Box::pin(async move {
            let token = TokenId(caller.token);
            let ledger = &self.worker.gateway.ledger;
            let rows = ledger.used_of_late(token, days, rows_max).await;
            let rows = rows.map_err(|error| away(&error))?.into_iter();
            let used = rows.map(|row| Used {
                remote_id: row.remote_id,
                model: row.model,
                total_tokens: row.total_tokens,
                price: row.price.to_string(),
                timestamp: row.at_s,
            });
            Ok(used.collect())
        })
    }
}
