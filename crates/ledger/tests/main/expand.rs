//! What a release runs on stays: migrations after it only add, or say in their names whom they leave behind.
//!
//! `just previous` shows the same by the release's own binary; this asks the catalog, in a moment.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use testkit::postgres::TestDb;
use tokio_postgres::Client;

/// The newest migration of the latest release: set it when one is made. Until then, of what may be running somewhere.
const RELEASED: u32 = 26;

/// What programs and people may lean on.
#[derive(Default)]
struct Schema {
    /// `relation.column`, with its type.
    columns: BTreeMap<String, String>,
    /// Those that an `insert` of an earlier program leaves out at its peril.
    wanted: BTreeSet<String>,
    /// Of tables: constraints and unique indexes, with the columns that each is about.
    rules: BTreeMap<String, BTreeSet<String>>,
    functions: Vec<Function>,
    /// Who may do what with what.
    rights: BTreeSet<String>,
}

#[derive(Debug)]
struct Function {
    name: String,
    /// Name and type of each argument that goes in.
    arguments: Vec<String>,
    /// How many of them may be left out.
    defaults: usize,
    /// Name and type of each column that comes out, or the type of the one value.
    results: BTreeSet<String>,
}

impl Schema {
    async fn of(client: &Client) -> Self {
        let mut schema = Self::default();
        let rows = async |statement: &str| client.query(statement, &[]).await.unwrap();
        for row in rows(COLUMNS).await {
            let (column, is_wanted): (String, bool) = (row.get(0), row.get(2));
            if is_wanted {
                schema.wanted.insert(column.clone());
            }
            schema.columns.insert(column, row.get(1));
        }
        for row in rows(RULES).await {
            let columns: Vec<String> = row.get(1);
            schema
                .rules
                .insert(row.get(0), columns.into_iter().collect());
        }
        for row in rows(FUNCTIONS).await {
            let results: Vec<String> = row.get(3);
            schema.functions.push(Function {
                name: row.get(0),
                arguments: row.get(1),
                defaults: usize::try_from(row.get::<_, i16>(2)).unwrap(),
                results: results.into_iter().collect(),
            });
        }
        for row in rows(RIGHTS).await {
            schema.rights.insert(row.get(0));
        }
        schema
    }

    /// What a program of the time of `before` would miss here.
    fn misses(&self, before: &Self) -> Vec<String> {
        let mut missing = Vec::new();
        for (column, its_type) in &before.columns {
            match self.columns.get(column) {
                Some(now) if now == its_type => {}
                Some(now) => missing.push(format!("{column} was {its_type} and is {now}")),
                None => missing.push(format!("{column} is gone")),
            }
        }
        let is_new = |column: &String| !before.columns.contains_key(column);
        let had = |column: &str| {
            let table = column.split('.').next().unwrap();
            let start = format!("{table}.");
            before.columns.keys().any(|known| known.starts_with(&start))
        };
        for column in &self.wanted {
            let was_wanted = before.wanted.contains(column);
            if !was_wanted && had(column) {
                missing.push(format!("{column} must be given, and was not before"));
            }
        }
        for (rule, columns) in &self.rules {
            let is_about_old = had(rule) && !columns.iter().any(is_new);
            if is_about_old && !before.rules.contains_key(rule) {
                missing.push(format!("{rule} forbids what was allowed"));
            }
        }
        for function in &before.functions {
            if !self.functions.iter().any(|now| now.serves(function)) {
                missing.push(format!("{function:?} cannot be called as before"));
            }
        }
        let lost = before.rights.difference(&self.rights);
        missing.extend(lost.map(|right| format!("{right}: the right is gone")));
        missing
    }
}

impl Function {
    /// Whether every call of that other function can be a call of this one.
    fn serves(&self, other: &Self) -> bool {
        let more = self.arguments.len().checked_sub(other.arguments.len());
        self.name == other.name
            && self.arguments.starts_with(&other.arguments)
            && more.is_some_and(|more| self.defaults >= more + other.defaults)
            && self.results.is_superset(&other.results)
    }
}

/// A database with the migrations up to this one.
async fn at(version: u32) -> (TestDb, Client) {
    let db = TestDb::empty().await;
    let client = db.client().await;
    client
        .batch_execute(
            "create schema turnpike;
             create table turnpike.migration (version integer, applied_at timestamptz, applied_by text, name text, checksum bytea)",
        )
        .await
        .unwrap();
    for (_, text) in files().range(..=version) {
        let transaction = format!("begin; {text}; commit");
        client.batch_execute(&transaction).await.unwrap();
    }
    (db, client)
}

fn files() -> BTreeMap<u32, String> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations");
    let files = std::fs::read_dir(dir).unwrap().map(|file| {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let number = name.split('_').next().unwrap().parse().unwrap();
        (number, std::fs::read_to_string(&path).unwrap())
    });
    files.collect()
}

fn names_whom_it_leaves_behind() -> bool {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations");
    std::fs::read_dir(dir).unwrap().any(|file| {
        let name = file.unwrap().file_name().into_string().unwrap();
        let number: u32 = name.split('_').next().unwrap().parse().unwrap();
        number > RELEASED && name.contains("_needs_")
    })
}

#[tokio::test]
async fn a_release_runs_on_every_schema_that_does_not_say_otherwise() {
    if names_whom_it_leaves_behind() {
        // Programs that know too little refuse to start: `a_database_that_is_too_new_is_noticed`.
        return;
    }
    let (_released, before) = at(RELEASED).await;
    let now = TestDb::new().await;
    let missing = Schema::of(&now.client().await).await;
    let missing = missing.misses(&Schema::of(&before).await);
    assert!(
        missing.is_empty(),
        "a gateway of the latest release that runs on this database would fail: {missing:#?}\nKeep what it uses (an overload, a view, \
         a default), or end the migration's name in _needs_NNNN, the first that a program must know to go on"
    );
}

#[tokio::test]
async fn what_a_running_release_would_miss_is_found() {
    let db = TestDb::new().await;
    let client = db.client().await;
    let before = Schema::of(&client).await;
    let misses = async |change: &str| {
        let change = format!("begin; {change}");
        client
            .batch_execute(&change)
            .await
            .unwrap_or_else(|error| panic!("{change}: {error:?}"));
        let missing = Schema::of(&client).await.misses(&before);
        client.batch_execute("rollback").await.unwrap();
        missing
    };
    for (change, complaint) in [
        (
            "alter table turnpike.account drop column credit_limit cascade",
            "account.credit_limit is gone",
        ),
        (
            "alter table turnpike.route rename column pattern to name",
            "route.pattern is gone",
        ),
        (
            "drop view turnpike.balances; create view turnpike.balances as select 'x' as balance_usd",
            "balances.balance_usd was",
        ),
        (
            "alter table turnpike.account add column branch text not null",
            "account.branch must be given",
        ),
        (
            "alter table turnpike.account add constraint account_is_short check (length(name) < 9)",
            "account.account_is_short forbids",
        ),
        (
            "create unique index credit_once on turnpike.credit (note)",
            "credit.credit_once forbids",
        ),
        (
            "drop function turnpike.create_account",
            "\"create_account\"",
        ),
        (
            "alter function turnpike.top_up rename to add_credit",
            "\"top_up\"",
        ),
        (
            "revoke select on turnpike.access_token from turnpike_gateway",
            "turnpike_gateway select access_token",
        ),
    ] {
        let missing = misses(change).await;
        assert!(
            missing.iter().any(|it| it.contains(complaint)),
            "{change}: {missing:#?}"
        );
    }
    // And what only adds is no matter.
    let missing = misses(
        "alter table turnpike.account add column branch text, add constraint account_branch_named check (branch <> '');
         create table turnpike.branch (name text not null);
         create function turnpike.create_account(branch integer) returns integer language sql as 'select 1';",
    )
    .await;
    assert!(missing.is_empty(), "{missing:#?}");
}

const COLUMNS: &str = "
    select c.relname || '.' || a.attname, format_type(a.atttypid, a.atttypmod),
           c.relkind in ('r', 'p') and a.attnotnull and not a.atthasdef and a.attidentity = ''
      from pg_class as c join pg_attribute as a on a.attrelid = c.oid
     where c.relnamespace = 'turnpike'::regnamespace and c.relkind in ('r', 'p', 'v') and not c.relispartition
       and a.attnum > 0 and not a.attisdropped and c.relname <> 'migration'";

const RULES: &str = "
    select c.relname || '.' || n.conname, array(select c.relname || '.' || a.attname from pg_attribute as a where a.attrelid = c.oid and a.attnum = any (n.conkey))
      from pg_constraint as n join pg_class as c on c.oid = n.conrelid
     where n.connamespace = 'turnpike'::regnamespace and not c.relispartition and c.relname <> 'migration'
    union all
    select c.relname || '.' || i.relname, array(select c.relname || '.' || a.attname from pg_attribute as a where a.attrelid = c.oid and a.attnum = any (x.indkey))
      from pg_index as x join pg_class as c on c.oid = x.indrelid join pg_class as i on i.oid = x.indexrelid
     where c.relnamespace = 'turnpike'::regnamespace and x.indisunique and not c.relispartition and c.relname <> 'migration'
       and not exists (select from pg_constraint as n where n.conindid = x.indexrelid)";

/// Triggers are called by nobody.
const FUNCTIONS: &str = "
    select p.proname::text,
           array(select coalesce(p.proargnames[i], '') || ' ' || format_type(t, null)
                   from unnest(p.proargtypes::oid[]) with ordinality as a (t, i) order by i),
           p.pronargdefaults,
           case when p.proargmodes is null then array[format_type(p.prorettype, null)]
                else array(select p.proargnames[i] || ' ' || format_type(p.proallargtypes[i], null)
                             from generate_subscripts(p.proallargtypes, 1) as i where p.proargmodes[i] in ('o', 't', 'b')) end
      from pg_proc as p
     where p.pronamespace = 'turnpike'::regnamespace and p.prorettype <> 'trigger'::regtype and p.proname not like 'grant\\_%'";

const RIGHTS: &str = "
    select distinct r.rolname || ' ' || lower(x.privilege_type) || ' ' || c.relname
      from pg_class as c, aclexplode(c.relacl) as x join pg_roles as r on r.oid = x.grantee
     where c.relnamespace = 'turnpike'::regnamespace and c.relkind in ('r', 'p', 'v') and not c.relispartition and r.rolname like 'turnpike\\_%'
    union
    select distinct r.rolname || ' ' || lower(x.privilege_type) || ' ' || c.relname || '.' || a.attname
      from pg_class as c join pg_attribute as a on a.attrelid = c.oid, aclexplode(a.attacl) as x join pg_roles as r on r.oid = x.grantee
     where c.relnamespace = 'turnpike'::regnamespace and not c.relispartition and r.rolname like 'turnpike\\_%'
    union
    select distinct r.rolname || ' execute ' || p.proname
      from pg_proc as p, aclexplode(p.proacl) as x join pg_roles as r on r.oid = x.grantee
     where p.pronamespace = 'turnpike'::regnamespace and r.rolname like 'turnpike\\_%'";
