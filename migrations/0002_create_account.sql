-- Who pays, and what was paid in. The balance is kept beside the name because every hold reads it; a trigger keeps it in
-- step with credits, so that a plain insert works as well as top_up(). Safe: adds tables.

create table turnpike.account (
  id           bigint generated always as identity,
  balance      bigint not null default 0,
  held         bigint not null default 0,
  credit_limit bigint default 0,
  created_at   timestamptz not null default now(),
  name         text not null,
  constraint account_identified primary key (id),
  constraint account_name_unique unique (name),
  constraint account_name_printable check (name ~ '^[^[:cntrl:]]+$' and name = btrim(name) and length(name) <= 200),
  constraint account_held_not_negative check (held >= 0),
  constraint account_credit_limit_not_negative check (credit_limit >= 0)
) with (fillfactor = 50);

comment on table turnpike.account is 'Who pays. Half-filled pages, because holds and settlements update its counters all the time.';
comment on column turnpike.account.id is 'The account.';
comment on column turnpike.account.name is 'What people call it; unique.';
comment on column turnpike.account.balance is 'Credits less charges, nano-USD. Kept by triggers and settlement, never by hand; view audit checks it.';
comment on column turnpike.account.held is 'Sum of its open holds, nano-USD. Kept by take_holds() and settle_exchanges(); view audit checks it.';
comment on column turnpike.account.credit_limit is 'How far below zero balance less holds may go, nano-USD. Null: as far as it likes.';
comment on column turnpike.account.created_at is 'When it was made.';

create table turnpike.credit (
  id         bigint generated always as identity,
  account_id bigint not null,
  amount     bigint not null,
  created_at timestamptz not null default now(),
  created_by text not null default session_user,
  note       text not null,
  constraint credit_identified primary key (id),
  constraint credit_of_account foreign key (account_id) references turnpike.account (id),
  constraint credit_not_zero check (amount <> 0)
);
create index credit_by_account on turnpike.credit (account_id, id);

comment on table turnpike.credit is 'Money paid in, and corrections (negative). Append-only: an error is put right by another row.';
comment on column turnpike.credit.id is 'The credit.';
comment on column turnpike.credit.account_id is 'Whose.';
comment on column turnpike.credit.amount is 'Nano-USD; negative takes away.';
comment on column turnpike.credit.created_at is 'When it was booked.';
comment on column turnpike.credit.created_by is 'The database user who booked it.';
comment on column turnpike.credit.note is 'Why: an invoice, a refund, a correction. Not readable by the gateway.';

-- Runs as its owner: nobody else may touch account.balance. Locks accounts in id order, as holds and settlements do.
create function turnpike.apply_credits() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform from turnpike.account where id in (select account_id from added) order by id for no key update;
  update turnpike.account as a set balance = a.balance + s.amount
    from (select account_id, sum(amount)::bigint as amount from added group by account_id) as s
   where a.id = s.account_id;
  return null;
end $$;

comment on function turnpike.apply_credits() is 'Trigger on credit: moves the balances.';

create trigger credit_applied after insert on turnpike.credit
  referencing new table as added for each statement execute function turnpike.apply_credits();
create trigger credit_append_only before update or delete on turnpike.credit
  for each row execute function turnpike.refuse_change('credit');
create trigger credit_not_truncated before truncate on turnpike.credit
  for each statement execute function turnpike.refuse_change('credit');
