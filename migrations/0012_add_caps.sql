-- Caps beside the lifetime budget: money per day and month, and tokens of prompts and of completions, for life, per day and per
-- month. A day and a month are UTC's, by Postgres' clock, since replicas' clocks differ; what a charge counts in is when it was settled.
-- Safe: adds columns with defaults; the version before ignores them and its counters stay right.

alter table turnpike.access_token
  add column budget_day bigint,
  add column budget_month bigint,
  add column prompt_tokens bigint,
  add column prompt_tokens_day bigint,
  add column prompt_tokens_month bigint,
  add column completion_tokens bigint,
  add column completion_tokens_day bigint,
  add column completion_tokens_month bigint,
  add constraint access_token_caps_not_negative
    check (least(budget_day, budget_month, prompt_tokens, prompt_tokens_day, prompt_tokens_month,
                 completion_tokens, completion_tokens_day, completion_tokens_month) >= 0);

comment on column turnpike.access_token.budget_day is 'The most it may spend in a day (UTC), nano-USD. Null: no limit.';
comment on column turnpike.access_token.budget_month is 'The most it may spend in a month (UTC), nano-USD. Null: no limit.';
comment on column turnpike.access_token.prompt_tokens is 'Input tokens in its life. Null: no limit.';
comment on column turnpike.access_token.prompt_tokens_day is 'Input tokens in a day (UTC). Null: no limit.';
comment on column turnpike.access_token.prompt_tokens_month is 'Input tokens in a month (UTC). Null: no limit.';
comment on column turnpike.access_token.completion_tokens is 'Output tokens in its life. Null: no limit.';
comment on column turnpike.access_token.completion_tokens_day is 'Output tokens in a day (UTC). Null: no limit.';
comment on column turnpike.access_token.completion_tokens_month is 'Output tokens in a month (UTC). Null: no limit.';

alter table turnpike.access_token_counter
  add column prompt bigint not null default 0,
  add column completion bigint not null default 0,
  add column day date not null default '-infinity',
  add column spent_day bigint not null default 0,
  add column prompt_day bigint not null default 0,
  add column completion_day bigint not null default 0,
  add column month date not null default '-infinity',
  add column spent_month bigint not null default 0,
  add column prompt_month bigint not null default 0,
  add column completion_month bigint not null default 0,
  add constraint access_token_counter_uses_not_negative
    check (least(prompt, completion, spent_day, prompt_day, completion_day, spent_month, prompt_month, completion_month) >= 0);

comment on column turnpike.access_token_counter.prompt is 'Input tokens of its charges, each at most what its hold foresaw.';
comment on column turnpike.access_token_counter.completion is 'Output tokens of its charges, each at most what its hold foresaw.';
comment on column turnpike.access_token_counter.day is 'The day (UTC) that the columns beside it count; an earlier one counts as zero.';
comment on column turnpike.access_token_counter.spent_day is 'Sum of the charges settled on that day, nano-USD.';
comment on column turnpike.access_token_counter.prompt_day is 'Input tokens of the charges settled on that day.';
comment on column turnpike.access_token_counter.completion_day is 'Output tokens of the charges settled on that day.';
comment on column turnpike.access_token_counter.month is 'The first day of the month (UTC) that the columns beside it count; an earlier one counts as zero.';
comment on column turnpike.access_token_counter.spent_month is 'Sum of the charges settled in that month, nano-USD.';
comment on column turnpike.access_token_counter.prompt_month is 'Input tokens of the charges settled in that month.';
comment on column turnpike.access_token_counter.completion_month is 'Output tokens of the charges settled in that month.';

drop function turnpike.issue_token(text, numeric, timestamptz, text[], integer, integer, text[], cidr[], text, text);

create function turnpike.issue_token(
  account text,
  budget_usd numeric default null,
  expires timestamptz default null,
  models text[] default null,
  requests_per_minute integer default null,
  concurrent_exchanges integer default null,
  endpoints text[] default null,
  addresses cidr[] default null,
  label text default null,
  upstream_key text default null,
  budget_day_usd numeric default null,
  budget_month_usd numeric default null,
  prompt_tokens bigint default null,
  prompt_tokens_day bigint default null,
  prompt_tokens_month bigint default null,
  completion_tokens bigint default null,
  completion_tokens_day bigint default null,
  completion_tokens_month bigint default null
) returns table (token text, prefix text, token_id bigint)
language plpgsql as $$
#variable_conflict use_column
declare
  target constant bigint := turnpike.account_id(issue_token.account);
  secret constant text := turnpike.new_secret();
  shown constant text := left(secret, 11);
  new_id bigint;
begin
  if least(issue_token.budget_usd, issue_token.budget_day_usd, issue_token.budget_month_usd) < 0 then
    raise exception 'the budget is negative' using errcode = 'invalid_parameter_value';
  end if;
  if least(issue_token.prompt_tokens, issue_token.prompt_tokens_day, issue_token.prompt_tokens_month,
           issue_token.completion_tokens, issue_token.completion_tokens_day, issue_token.completion_tokens_month) < 0 then
    raise exception 'a number of tokens is negative' using errcode = 'invalid_parameter_value', hint = 'Leave it out for no limit.';
  end if;
  if issue_token.expires <= now() then
    raise exception 'the token would have expired already (%)', issue_token.expires
      using errcode = 'invalid_parameter_value', hint = 'Leave "expires" out for a token that does not expire.';
  end if;
  if issue_token.models is not null and not turnpike.are_patterns(issue_token.models) then
    raise exception 'the list of models is empty or names something that is no pattern'
      using errcode = 'invalid_parameter_value', hint = 'Leave "models" out to allow all; a pattern is a name or a beginning with one * at the end: {gpt-4o*,o3}.';
  end if;
  if issue_token.endpoints is not null and not turnpike.are_words(issue_token.endpoints) then
    raise exception 'the list of endpoints is empty or has an empty element'
      using errcode = 'invalid_parameter_value', hint = 'Leave "endpoints" out to allow all: {chat/completions,embeddings}.';
  end if;
  if cardinality(issue_token.addresses) = 0 then
    raise exception 'the list of addresses is empty'
      using errcode = 'invalid_parameter_value', hint = 'Leave "addresses" out to allow all: {10.0.0.0/8}.';
  end if;
  if issue_token.requests_per_minute <= 0 or issue_token.concurrent_exchanges <= 0 then
    raise exception 'a limit must be at least 1' using errcode = 'invalid_parameter_value', hint = 'Leave it out for no limit.';
  end if;
  insert into turnpike.access_token (
    account_id, sha256, prefix, label, budget, expires_at, models, endpoints, addresses, requests_per_minute, concurrent_exchanges, upstream_key,
    budget_day, budget_month, prompt_tokens, prompt_tokens_day, prompt_tokens_month,
    completion_tokens, completion_tokens_day, completion_tokens_month
  ) values (
    target, sha256(convert_to(secret, 'UTF8')), shown, issue_token.label, turnpike.nano(issue_token.budget_usd, 'the budget'),
    issue_token.expires, issue_token.models, issue_token.endpoints, issue_token.addresses, issue_token.requests_per_minute,
    issue_token.concurrent_exchanges, issue_token.upstream_key,
    turnpike.nano(issue_token.budget_day_usd, 'the budget of a day'), turnpike.nano(issue_token.budget_month_usd, 'the budget of a month'),
    issue_token.prompt_tokens, issue_token.prompt_tokens_day, issue_token.prompt_tokens_month,
    issue_token.completion_tokens, issue_token.completion_tokens_day, issue_token.completion_tokens_month
  ) returning id into new_id;
  return query select secret, shown, new_id;
end $$;

comment on function turnpike.issue_token(text, numeric, timestamptz, text[], integer, integer, text[], cidr[], text, text, numeric, numeric, bigint, bigint, bigint, bigint, bigint, bigint) is
  'Makes an access token for an account that exists. The token is shown this once; only its digest is kept. What is left out sets no limit.';

revoke all on function turnpike.issue_token from public;
