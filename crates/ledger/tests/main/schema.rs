//! The rules of the schema, asked of Postgres' own catalog.

use testkit::postgres::TestDb;

async fn offenders(statement: &str) -> Vec<String> {
    let db = TestDb::new().await;
    let client = db.client().await;
    client
        .query(statement, &[])
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect()
}

#[tokio::test]
async fn every_table_view_column_and_function_has_a_comment() {
    let bare = offenders(
        "select 'relation ' || c.relname from pg_class as c
          where c.relnamespace = 'turnpike'::regnamespace and c.relkind in ('r', 'p', 'v') and obj_description(c.oid, 'pg_class') is null
         union all
         select 'column ' || c.relname || '.' || a.attname from pg_class as c join pg_attribute as a on a.attrelid = c.oid
          where c.relnamespace = 'turnpike'::regnamespace and c.relkind in ('r', 'p', 'v') and not c.relispartition
            and a.attnum > 0 and not a.attisdropped and col_description(c.oid, a.attnum) is null
         union all
         select 'function ' || p.proname from pg_proc as p
          where p.pronamespace = 'turnpike'::regnamespace and obj_description(p.oid, 'pg_proc') is null
         union all
         select 'schema' where obj_description('turnpike'::regnamespace, 'pg_namespace') is null",
    )
    .await;
    assert!(bare.is_empty(), "without a comment: {bare:#?}");
}

/// Code matches on the names, so they are chosen: none is what Postgres would have called it.
#[tokio::test]
async fn every_constraint_has_a_name_of_its_own() {
    let nameless = offenders(
        "select c.relname || ': ' || n.conname from pg_constraint as n join pg_class as c on c.oid = n.conrelid
          where n.connamespace = 'turnpike'::regnamespace and not c.relispartition and n.contype in ('p', 'u', 'f', 'c', 'x')
            and (n.conname ~ '_(pkey|key|fkey|check|excl)\\d*$' or n.conname not like c.relname || '\\_%')",
    )
    .await;
    assert!(nameless.is_empty(), "{nameless:#?}");
}

#[tokio::test]
async fn no_table_is_without_a_primary_key_and_no_money_is_a_float() {
    let odd = offenders(
        "select 'no primary key: ' || c.relname from pg_class as c
          where c.relnamespace = 'turnpike'::regnamespace and c.relkind in ('r', 'p')
            and not exists (select from pg_constraint as n where n.conrelid = c.oid and n.contype = 'p')
         union all
         select 'a float: ' || c.relname || '.' || a.attname from pg_class as c join pg_attribute as a on a.attrelid = c.oid
          where c.relnamespace = 'turnpike'::regnamespace and c.relkind in ('r', 'p', 'v') and a.atttypid in ('float4'::regtype, 'float8'::regtype, 'money'::regtype)",
    )
    .await;
    assert!(odd.is_empty(), "{odd:#?}");
}

#[tokio::test]
async fn what_runs_as_its_owner_is_little_and_has_a_fixed_search_path() {
    let functions = offenders(
        "select proname || ' ' || coalesce(array_to_string(proconfig, ' '), '') from pg_proc
          where pronamespace = 'turnpike'::regnamespace and prosecdef order by 1",
    )
    .await;
    let path = "search_path=pg_catalog, pg_temp";
    let expected: Vec<_> = [
        "add_counter",
        "apply_credits",
        "ensure_charge_partitions",
        "release_hold",
    ]
    .iter()
    .map(|name| format!("{name} {path}"))
    .collect();
    assert_eq!(functions, expected);
}

const RELATIONS: &str = "
    select format('%s: %s', c.relname, string_agg(distinct lower(a.privilege_type), ' ' order by lower(a.privilege_type)))
      from pg_class as c, aclexplode(c.relacl) as a
     where c.relnamespace = 'turnpike'::regnamespace and a.grantee = '{role}'::regrole
     group by c.relname
    union all
    select format('%s.%s: %s', c.relname, t.attname, string_agg(lower(a.privilege_type), ' ' order by a.privilege_type))
      from pg_class as c join pg_attribute as t on t.attrelid = c.oid, aclexplode(t.attacl) as a
     where c.relnamespace = 'turnpike'::regnamespace and a.grantee = '{role}'::regrole
     group by c.relname, t.attname
    union all
    select format('%s()', p.proname) from pg_proc as p, aclexplode(p.proacl) as a
     where p.pronamespace = 'turnpike'::regnamespace and a.grantee = '{role}'::regrole
     order by 1";

#[tokio::test]
async fn the_gateway_s_role_has_what_it_needs_and_no_more() {
    let grants = offenders(&RELATIONS.replace("{role}", "turnpike_gateway")).await;
    assert_eq!(
        grants,
        [
            "access_token: select",
            "access_token_counter.held: update",
            "access_token_counter.spent: update",
            "access_token_counter: select",
            "account.balance: update",
            "account.held: update",
            "account: select",
            "charge: insert select",
            "ensure_charge_partitions()",
            "first_id()",
            "hold: delete insert select",
            "instance.seen_at: update",
            "instance.stopped_at: update",
            "instance: insert select",
            "migration: select",
            "price: select",
            "route: select",
            "settle_exchanges()",
            "take_holds()",
            "upstream: select",
            "upstream_key: select",
        ]
    );
}

#[tokio::test]
async fn the_admin_s_role_edits_settings_and_books_credits_and_moves_no_balance() {
    let grants = offenders(&RELATIONS.replace("{role}", "turnpike_admin")).await;
    let changes: Vec<_> = grants
        .iter()
        .filter(|grant| !grant.ends_with("()") && !grant.ends_with(": select"))
        .map(String::as_str)
        .collect();
    assert_eq!(
        changes,
        [
            "access_token: insert select update",
            "account.credit_limit: insert update",
            "account.name: insert update",
            "credit.account_id: insert",
            "credit.amount: insert",
            "credit.note: insert",
            "price.valid_to: update",
            "price: insert select",
            "route: delete insert select update",
            "upstream: delete insert select update",
            "upstream_key: delete insert select update",
        ]
    );
    assert!(
        !grants
            .iter()
            .any(|grant| grant == "take_holds()" || grant == "settle_exchanges()")
    );
}

#[tokio::test]
async fn nobody_else_may_call_anything() {
    let open = offenders(
        "select p.proname::text from pg_proc as p
          where p.pronamespace = 'turnpike'::regnamespace
            and (p.proacl is null or exists (select from aclexplode(p.proacl) as a where a.grantee = 0))",
    )
    .await;
    assert!(open.is_empty(), "{open:#?}");
}

/// The roles in use, not only on paper: the whole contract as the one, the whole hot path as the other.
#[tokio::test]
async fn the_roles_suffice_for_their_work() {
    let db = TestDb::new().await;
    let client = db.client().await;
    client
        .batch_execute(
            "set role turnpike_admin;
             select turnpike.create_account('alice'), turnpike.top_up('alice', 20);
             select turnpike.set_credit_limit('alice', 5);
             select turnpike.issue_token('alice', models => '{gpt*}');
             select turnpike.rotate_token(prefix) from turnpike.access_token;
             select turnpike.revoke_token(prefix) from turnpike.access_token;
             select turnpike.issue_token('alice');
             select turnpike.set_price('gpt-4o', input => 1), turnpike.set_price('gpt-4o', input => 2);
             select turnpike.set_upstream('a', 'https://a', key => 'env:A'), turnpike.set_route('gpt*', 'a');
             select turnpike.release_hold(gen_random_uuid());
             delete from turnpike.route;
             select * from turnpike.balances, turnpike.audit, turnpike.usage_daily, turnpike.usage_by_model, turnpike.open_holds, turnpike.estimates;",
        )
        .await
        .unwrap();
    for (role, statement) in [
        ("turnpike_admin", "update turnpike.account set balance = 0"),
        (
            "turnpike_admin",
            "insert into turnpike.account (name, balance) values ('x', 1)",
        ),
        (
            "turnpike_admin",
            "update turnpike.access_token_counter set spent = 0",
        ),
        (
            "turnpike_admin",
            "insert into turnpike.charge select * from turnpike.charge",
        ),
        ("turnpike_admin", "update turnpike.charge set amount = 0"),
        ("turnpike_admin", "delete from turnpike.credit"),
        (
            "turnpike_admin",
            "insert into turnpike.credit (account_id, amount, note, created_by) values (1, 1, '', 'somebody else')",
        ),
        ("turnpike_admin", "delete from turnpike.hold"),
        ("turnpike_gateway", "select note from turnpike.credit"),
        ("turnpike_gateway", "update turnpike.charge set amount = 0"),
        ("turnpike_gateway", "delete from turnpike.charge"),
        (
            "turnpike_gateway",
            "update turnpike.access_token set budget = null",
        ),
        (
            "turnpike_gateway",
            "update turnpike.account set credit_limit = null",
        ),
        ("turnpike_gateway", "select turnpike.top_up('alice', 1)"),
    ] {
        let error = client
            .batch_execute(&format!("set role {role}; {statement}"))
            .await
            .expect_err(statement);
        assert_eq!(
            error.code().map(|code| code.code()),
            Some("42501"),
            "{role}: {statement}: {error}"
        );
    }
}
