-- What models cost. A row is a version and never changes, because charges point at it; a new price is a new row and the old
-- one is closed. Two versions of one (pattern, tier, min_context) must not overlap: an exclusion constraint would need the
-- btree_gist extension, so a partial unique index guards the open rows and a trigger the closed ones. Safe: adds a table.

create table turnpike.price (
  id                bigint generated always as identity,
  min_context       bigint not null default 0,
  valid_from        timestamptz not null default date_trunc('milliseconds', clock_timestamp()),
  valid_to          timestamptz,
  in_text           bigint,
  in_audio          bigint,
  in_image          bigint,
  cr_text           bigint,
  cr_audio          bigint,
  cr_image          bigint,
  cw_5m             bigint,
  cw_1h             bigint,
  out_text          bigint,
  out_reasoning     bigint,
  out_audio         bigint,
  out_image         bigint,
  context_window    bigint,
  output_max        bigint,
  context_inclusive boolean not null default false,
  pattern           text not null,
  tier              text not null default 'default',
  disconnect        text,
  source            text,
  constraint price_identified primary key (id),
  constraint price_pattern_is_pattern check (turnpike.is_pattern(pattern)),
  constraint price_tier_is_priced
    check (tier ~ '^[a-z0-9_-]+$' and tier not in ('auto', 'standard', 'scale', 'fast')),
  constraint price_min_context_not_negative check (min_context >= 0),
  constraint price_valid_from_finite check (isfinite(valid_from) and isfinite(valid_to)),
  constraint price_valid_to_after_valid_from check (valid_to >= valid_from),
  constraint price_rates_not_negative
    check (least(in_text, in_audio, in_image, cr_text, cr_audio, cr_image, cw_5m, cw_1h,
                 out_text, out_reasoning, out_audio, out_image) >= 0),
  constraint price_rates_not_all_null
    check (num_nonnulls(in_text, in_audio, in_image, cr_text, cr_audio, cr_image, cw_5m, cw_1h,
                        out_text, out_reasoning, out_audio, out_image) > 0),
  constraint price_context_window_positive check (context_window > 0),
  constraint price_output_max_positive check (output_max > 0),
  constraint price_disconnect_known check (disconnect in ('drain', 'estimate', 'void'))
);
create unique index price_open_unique on turnpike.price (pattern, tier, min_context) where valid_to is null;
create index price_by_pattern on turnpike.price (pattern, tier, min_context, valid_from);

comment on table turnpike.price is 'Versions of prices: nano-USD per 1,000,000 tokens, by kind of token. The price in force when a request starts is its price.';
comment on column turnpike.price.id is 'The version. Every charge names the one it was computed from.';
comment on column turnpike.price.pattern is 'Which models: gpt-4o, gpt-4o*.';
comment on column turnpike.price.tier is 'Which service tier: default, flex, priority, ultrafast, batch.';
comment on column turnpike.price.min_context is 'The row prices the whole exchange once its input tokens exceed this.';
comment on column turnpike.price.context_inclusive is 'Whether an input of exactly min_context tokens already counts.';
comment on column turnpike.price.valid_from is 'In force from this instant.';
comment on column turnpike.price.valid_to is 'In force until just before this instant. Null: until superseded. Equal to valid_from: withdrawn before it came into force.';
comment on column turnpike.price.in_text is 'Input text. Null in any rate: falls back as the table of tariff::Rates says.';
comment on column turnpike.price.in_audio is 'Input audio; falls back to in_text.';
comment on column turnpike.price.in_image is 'Input images; falls back to in_text.';
comment on column turnpike.price.cr_text is 'Text read from a cache; falls back to in_text.';
comment on column turnpike.price.cr_audio is 'Audio read from a cache; falls back to cr_text.';
comment on column turnpike.price.cr_image is 'Images read from a cache; falls back to cr_text.';
comment on column turnpike.price.cw_5m is 'Input written to a short-lived cache; falls back to in_text.';
comment on column turnpike.price.cw_1h is 'Input written to a one-hour cache; falls back to cw_5m.';
comment on column turnpike.price.out_text is 'Output text.';
comment on column turnpike.price.out_reasoning is 'Output spent on reasoning; falls back to out_text.';
comment on column turnpike.price.out_audio is 'Output audio; falls back to out_text.';
comment on column turnpike.price.out_image is 'Output images; falls back to out_text.';
comment on column turnpike.price.context_window is 'Most input tokens the model takes: bounds a hold. Null: not known.';
comment on column turnpike.price.output_max is 'Most output tokens the model gives: bounds a hold. Null: not known.';
comment on column turnpike.price.disconnect is 'When a client leaves early: drain (go on reading, charge what the upstream reports), estimate (charge what passed), void (charge nothing). Null: as the gateway''s setting DISCONNECT says.';
comment on column turnpike.price.source is 'Where the figures come from.';

create function turnpike.guard_price() returns trigger
language plpgsql as $$
begin
  if tg_op = 'DELETE' then
    raise exception 'a price is never deleted, only superseded'
      using errcode = 'object_not_in_prerequisite_state',
            hint = 'To stop pricing a model: update turnpike.price set valid_to = now() where id = ' || old.id || ';';
  end if;
  if tg_op = 'UPDATE' then
    if new.valid_to is null
       or (to_jsonb(new) - 'valid_to') <> (to_jsonb(old) - 'valid_to')
       or new.valid_to >= coalesce(old.valid_to, 'infinity')
       or new.valid_to < least(date_trunc('milliseconds', now()), greatest(old.valid_from, now())) then
      raise exception 'a price is never changed, only superseded: nothing but valid_to may be set, once, from now on'
        using errcode = 'object_not_in_prerequisite_state',
              hint = 'Set a new version: select turnpike.set_price(''' || replace(old.pattern, '''', '''''') || ''', input => …, output => …);';
    end if;
    return new;
  end if;
  -- One transaction at a time, so that two inserts cannot overlook each other.
  perform pg_advisory_xact_lock(hashtextextended('turnpike.price', 0));
  if exists (
    select from turnpike.price as p
     where (p.pattern, p.tier, p.min_context) = (new.pattern, new.tier, new.min_context)
       and p.valid_from < coalesce(new.valid_to, 'infinity') and new.valid_from < coalesce(p.valid_to, 'infinity')
       and p.valid_from < coalesce(p.valid_to, 'infinity') and new.valid_from < coalesce(new.valid_to, 'infinity')
  ) then
    raise exception 'another version of the price of % (tier %, from % tokens) is in force at that time', new.pattern, new.tier, new.min_context
      using errcode = 'exclusion_violation', constraint = 'price_versions_disjoint',
            schema = 'turnpike', table = 'price', hint = 'turnpike.set_price() closes the version in force by itself.';
  end if;
  return new;
end $$;

comment on function turnpike.guard_price() is 'Trigger on price: versions do not overlap (reported as price_versions_disjoint) and do not change, but for closing valid_to.';

create trigger price_guarded before insert or update or delete on turnpike.price
  for each row execute function turnpike.guard_price();
create trigger price_not_truncated before truncate on turnpike.price
  for each statement execute function turnpike.refuse_change('price');
