//! `turnpike audit`

use std::process::ExitCode;

use ledger::admin::{Admin, AuditRow};
use serde_json::{Value, json};

use super::{found, progress, table::Table};
use crate::{cli::Audit, fatal::Fatal};

pub(super) async fn run(command: &Audit, admin: &Admin) -> Result<ExitCode, Fatal> {
    let rows = progress::waiting("auditing the books", admin.audit()).await?;
    if command.json {
        let rows: Vec<Value> = rows.iter().map(as_json).collect();
        println!("{:#}", Value::from(rows));
    } else if rows.is_empty() {
        println!("the books are right");
    } else {
        print!("{}", table(&rows));
    }
    Ok(if rows.is_empty() {
        ExitCode::SUCCESS
    } else {
        found()
    })
}

fn as_json(row: &AuditRow) -> Value {
    json!({ "rule": row.rule, "subject": row.subject, "expected": row.expected, "found": row.found })
}

fn table(rows: &[AuditRow]) -> Table {
    let mut table = Table::new(&["rule", "subject", "expected", "found"], &[2, 3]);
    for row in rows {
        table.row([
            row.rule.clone(),
            row.subject.clone(),
            row.expected.clone(),
            row.found.clone(),
        ]);
    }
    table
}
