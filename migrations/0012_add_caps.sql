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
