-- issue_token() takes every limit a token may have: caps and rates, and one call grants the roles all they need, whoever made the functions it calls.
-- Safe: the function's parameters are only added to.

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
  completion_tokens_month bigint default null,
  requests_per_second integer default null,
  requests_per_hour integer default null,
  tokens_per_minute bigint default null
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
  if least(issue_token.requests_per_second, issue_token.requests_per_minute, issue_token.requests_per_hour,
           issue_token.tokens_per_minute, issue_token.concurrent_exchanges) <= 0 then
    raise exception 'a limit must be at least 1' using errcode = 'invalid_parameter_value', hint = 'Leave it out for no limit.';
  end if;
  insert into turnpike.access_token (
    account_id, sha256, prefix, label, budget, expires_at, models, endpoints, addresses, requests_per_minute, concurrent_exchanges, upstream_key,
    budget_day, budget_month, prompt_tokens, prompt_tokens_day, prompt_tokens_month,
    completion_tokens, completion_tokens_day, completion_tokens_month, requests_per_second, requests_per_hour, tokens_per_minute
  ) values (
    target, sha256(convert_to(secret, 'UTF8')), shown, issue_token.label, turnpike.nano(issue_token.budget_usd, 'the budget'),
    issue_token.expires, issue_token.models, issue_token.endpoints, issue_token.addresses, issue_token.requests_per_minute,
    issue_token.concurrent_exchanges, issue_token.upstream_key,
    turnpike.nano(issue_token.budget_day_usd, 'the budget of a day'), turnpike.nano(issue_token.budget_month_usd, 'the budget of a month'),
    issue_token.prompt_tokens, issue_token.prompt_tokens_day, issue_token.prompt_tokens_month,
    issue_token.completion_tokens, issue_token.completion_tokens_day, issue_token.completion_tokens_month,
    issue_token.requests_per_second, issue_token.requests_per_hour, issue_token.tokens_per_minute
  ) returning id into new_id;
  return query select secret, shown, new_id;
end $$;

comment on function turnpike.issue_token(text, numeric, timestamptz, text[], integer, integer, text[], cidr[], text, text, numeric, numeric, bigint, bigint, bigint, bigint, bigint, bigint, integer, integer, bigint) is
  'Makes an access token for an account that exists. The token is shown this once; only its digest is kept. What is left out sets no limit.';

revoke all on function turnpike.issue_token from public;

alter function turnpike.grant_roles() rename to grant_base_roles;

create function turnpike.grant_roles() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  perform turnpike.grant_base_roles();
  perform turnpike.grant_front_roles();
  perform turnpike.grant_rates();
end $$;

comment on function turnpike.grant_roles() is
  'Makes the roles turnpike_gateway and turnpike_admin where allowed and grants them what each needs. Harmless to repeat.';
comment on function turnpike.grant_base_roles() is 'Part of grant_roles(): accounts, tokens, prices, leases, holds and charges.';

revoke all on function turnpike.grant_roles from public;
select turnpike.grant_roles();
