//! What the books say when they are checked from the ground up.

use std::fmt;

use crate::LedgerError;

use super::Admin;

/// A rule that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRow {
    /// What should hold.
    pub rule: String,
    /// For whom it does not.
    pub subject: String,
    /// What it should be, in decimal: nano-USD, or tokens where the rule is about them.
    pub expected: String,
    /// What it is.
    pub found: String,
}

impl fmt::Display for AuditRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rule,
            subject,
            expected,
            found,
        } = self;
        write!(f, "{rule}: {subject} should be {expected} and is {found}")
    }
}

impl Admin {
    /// The rows of view `turnpike.audit`: none, while the books are right.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn audit(&self) -> Result<Vec<AuditRow>, LedgerError> {
        let rows = self.session.query(AUDIT, &[]).await?;
        rows.iter()
            .map(|row| {
                Ok(AuditRow {
                    rule: row.try_get(0)?,
                    subject: row.try_get(1)?,
                    expected: row.try_get(2)?,
                    found: row.try_get(3)?,
                })
            })
            .collect()
    }
}

const AUDIT: &str =
    "select rule, subject, expected::text, found::text from turnpike.audit order by 1, 2";
