-- Prices of work that goes on after its request: a minute of video by its size, tokens that a model is trained on. set_price() is made
-- anew with two more arguments, optional and with a name. Safe: the older version neither reads nor writes the new columns, and null
-- means that there is no such price.

alter table turnpike.price
  add column videos   jsonb,
  add column training bigint,
  drop constraint price_rates_not_all_null,
  add constraint price_rates_not_all_null
    check (num_nonnulls(in_text, in_audio, in_image, cr_text, cr_audio, cr_image, cw_5m, cw_1h, out_text, out_reasoning, out_audio,
                        out_image, audio_in_minute, audio_out_minute, video_minute, characters, page, query, request, images, videos,
                        training) > 0),
  add constraint price_training_not_negative check (training >= 0),
  add constraint price_videos_are_fees check (jsonb_typeof(videos) = 'object'
    and not jsonb_path_exists(videos, '$.* ? (@.type() != "number" || @ < 0 || @.floor() != @)'));

comment on column turnpike.price.video_minute is 'A minute of video of a size that videos does not name.';
comment on column turnpike.price.videos is 'A minute of video by its size: {"1792x1024": 30000000000}.';
comment on column turnpike.price.training is '1,000,000 tokens that a model is trained on.';

drop function turnpike.set_price(text, numeric, numeric, numeric, numeric, numeric, numeric, numeric, numeric, numeric, numeric, numeric, numeric, numeric, numeric, numeric, numeric, numeric, numeric, numeric, jsonb, jsonb, jsonb, jsonb, text, bigint, boolean, bigint, bigint, text, timestamptz, text);

create function turnpike.set_price(
  model text,
  input numeric default null,
  cached_input numeric default null,
  output numeric default null,
  cache_write numeric default null,
  cache_write_1h numeric default null,
  reasoning numeric default null,
  input_audio numeric default null,
  input_image numeric default null,
  cached_input_audio numeric default null,
  cached_input_image numeric default null,
  output_audio numeric default null,
  output_image numeric default null,
  input_audio_minute numeric default null,
  output_audio_minute numeric default null,
  video_minute numeric default null,
  videos jsonb default null,
  training numeric default null,
  characters numeric default null,
  page numeric default null,
  query numeric default null,
  request numeric default null,
  images jsonb default null,
  tools jsonb default null,
  regions jsonb default null,
  speeds jsonb default null,
  tier text default 'default',
  min_context bigint default 0,
  context_inclusive boolean default false,
  context_window bigint default null,
  output_max bigint default null,
  disconnect text default null,
  valid_from timestamptz default null,
  source text default null
) returns bigint
language plpgsql as $$
#variable_conflict use_column
declare
  -- Prices are looked up by the millisecond.
  begins constant timestamptz := date_trunc('milliseconds', coalesce(set_price.valid_from, clock_timestamp()));
  wanted turnpike.price;
  current turnpike.price;
  next_begins timestamptz;
  new_id bigint;
begin
  if not turnpike.is_pattern(set_price.model) then
    raise exception 'the model is no name and no beginning with one * at the end' using errcode = 'invalid_parameter_value';
  end if;
  if least(input, cached_input, output, cache_write, cache_write_1h, reasoning, input_audio, input_image,
           cached_input_audio, cached_input_image, output_audio, output_image, input_audio_minute, output_audio_minute,
           set_price.video_minute, set_price.training, set_price.characters, set_price.page, set_price.query, set_price.request) < 0 then
    raise exception 'the price of % is negative', set_price.model using errcode = 'invalid_parameter_value';
  end if;
  if num_nonnulls(input, cached_input, output, cache_write, cache_write_1h, reasoning, input_audio, input_image,
                  cached_input_audio, cached_input_image, output_audio, output_image, input_audio_minute, output_audio_minute,
                  set_price.video_minute, set_price.characters, set_price.page, set_price.query, set_price.request, set_price.images,
                  set_price.videos, set_price.training) = 0 then
    raise exception 'the price of % has no figures', set_price.model
      using errcode = 'invalid_parameter_value', hint = 'USD per 1,000,000 tokens: turnpike.set_price(''gpt-4o'', input => 2.50, output => 10).';
  end if;
  if set_price.tier is null or set_price.tier !~ '^[a-z0-9_-]+$' or set_price.tier in ('auto', 'standard', 'scale', 'fast') then
    raise exception '% is no tier with a price of its own', coalesce(quote_literal(set_price.tier), 'null')
      using errcode = 'invalid_parameter_value', hint = 'default, flex, priority (which is also called fast), ultrafast or batch.';
  end if;
  if set_price.disconnect not in ('drain', 'estimate', 'void') then
    raise exception 'disconnect is none of drain, estimate, void' using errcode = 'invalid_parameter_value', hint = 'Leave it out for what the gateway''s setting DISCONNECT says.';
  end if;
  if set_price.min_context < 0 or set_price.context_window <= 0 or set_price.output_max <= 0 then
    raise exception 'a number of tokens must be positive' using errcode = 'invalid_parameter_value';
  end if;
  if not isfinite(begins) then
    raise exception 'valid_from must be an instant' using errcode = 'invalid_parameter_value';
  end if;

  -- The lock of guard_price(), taken before the version in force is read.
  perform pg_advisory_xact_lock(hashtextextended('turnpike.price', 0));

  wanted.in_text := turnpike.nano(input, 'the price of input');
  wanted.in_audio := turnpike.nano(input_audio, 'the price of audio input');
  wanted.in_image := turnpike.nano(input_image, 'the price of image input');
  wanted.cr_text := turnpike.nano(cached_input, 'the price of cached input');
  wanted.cr_audio := turnpike.nano(cached_input_audio, 'the price of cached audio input');
  wanted.cr_image := turnpike.nano(cached_input_image, 'the price of cached image input');
  wanted.cw_5m := turnpike.nano(cache_write, 'the price of cache writes');
  wanted.cw_1h := turnpike.nano(cache_write_1h, 'the price of one-hour cache writes');
  wanted.out_text := turnpike.nano(output, 'the price of output');
  wanted.out_reasoning := turnpike.nano(reasoning, 'the price of reasoning');
  wanted.out_audio := turnpike.nano(output_audio, 'the price of audio output');
  wanted.out_image := turnpike.nano(output_image, 'the price of image output');
  wanted.audio_in_minute := turnpike.nano(input_audio_minute, 'the price of a minute of audio input');
  wanted.audio_out_minute := turnpike.nano(output_audio_minute, 'the price of a minute of audio output');
  wanted.video_minute := turnpike.nano(set_price.video_minute, 'the price of a minute of video');
  wanted.videos := (select jsonb_object_agg(fee.key, turnpike.nano(fee.value::numeric, 'the price of a minute of video'))
                      from jsonb_each_text(nullif(set_price.videos, 'null')) as fee);
  wanted.training := turnpike.nano(set_price.training, 'the price of training');
  wanted.characters := turnpike.nano(set_price.characters, 'the price of characters');
  wanted.page := turnpike.nano(set_price.page, 'the price of a page');
  wanted.query := turnpike.nano(set_price.query, 'the price of a query');
  wanted.request := turnpike.nano(set_price.request, 'the price of a request');
  wanted.images := (select jsonb_object_agg(fee.key, turnpike.nano(fee.value::numeric, 'the price of an image'))
                      from jsonb_each_text(nullif(set_price.images, 'null')) as fee);
  wanted.tools := (select jsonb_object_agg(fee.key, turnpike.nano(fee.value::numeric, 'the price of a tool''s call'))
                     from jsonb_each_text(nullif(set_price.tools, 'null')) as fee);
  -- A multiplier in basis points is a hundred-thousandth of it in nano.
  wanted.regions_bps := (select jsonb_object_agg(fee.key, turnpike.nano(fee.value::numeric * 0.00001, 'the multiplier of a region'))
                           from jsonb_each_text(nullif(set_price.regions, 'null')) as fee);
  wanted.speeds_bps := (select jsonb_object_agg(fee.key, turnpike.nano(fee.value::numeric * 0.00001, 'the multiplier of a speed'))
                          from jsonb_each_text(nullif(set_price.speeds, 'null')) as fee);
  wanted.context_window := set_price.context_window;
  wanted.output_max := set_price.output_max;
  wanted.context_inclusive := coalesce(set_price.context_inclusive, false);
  wanted.disconnect := set_price.disconnect;
  wanted.source := set_price.source;
  wanted.pattern := set_price.model;
  wanted.tier := set_price.tier;
  wanted.min_context := coalesce(set_price.min_context, 0);

  select p.* into current from turnpike.price as p
   where (p.pattern, p.tier, p.min_context) = (wanted.pattern, wanted.tier, wanted.min_context)
     and p.valid_from <= begins and begins < coalesce(p.valid_to, 'infinity');
  if found then
    -- Facts about the model, not prices: they stay until somebody knows better.
    wanted.context_window := coalesce(wanted.context_window, current.context_window);
    wanted.output_max := coalesce(wanted.output_max, current.output_max);
    if to_jsonb(current) - '{id,valid_from,valid_to}'::text[] = to_jsonb(wanted) - '{id,valid_from,valid_to}'::text[] then
      return current.id;
    end if;
    if begins < date_trunc('milliseconds', now()) then
      raise exception 'a price cannot be superseded in the past (%)', begins
        using errcode = 'invalid_parameter_value', hint = 'Charges made since then keep the price they were made at. Leave "valid_from" out for now.';
    end if;
    update turnpike.price as p set valid_to = begins where p.id = current.id;
  end if;
  select min(p.valid_from) into next_begins from turnpike.price as p
   where (p.pattern, p.tier, p.min_context) = (wanted.pattern, wanted.tier, wanted.min_context)
     and p.valid_from > begins and p.valid_from < coalesce(p.valid_to, 'infinity');

  insert into turnpike.price (
    pattern, tier, min_context, context_inclusive, valid_from, valid_to, in_text, in_audio, in_image, cr_text, cr_audio, cr_image,
    cw_5m, cw_1h, out_text, out_reasoning, out_audio, out_image, audio_in_minute, audio_out_minute, video_minute, characters,
    page, query, request, images, tools, regions_bps, speeds_bps, videos, training, context_window, output_max, disconnect, source
  ) values (
    wanted.pattern, wanted.tier, wanted.min_context, wanted.context_inclusive, begins, next_begins, wanted.in_text, wanted.in_audio,
    wanted.in_image, wanted.cr_text, wanted.cr_audio, wanted.cr_image, wanted.cw_5m, wanted.cw_1h, wanted.out_text, wanted.out_reasoning,
    wanted.out_audio, wanted.out_image, wanted.audio_in_minute, wanted.audio_out_minute, wanted.video_minute, wanted.characters, wanted.page,
    wanted.query, wanted.request, wanted.images, wanted.tools, wanted.regions_bps, wanted.speeds_bps, wanted.videos, wanted.training, wanted.context_window, wanted.output_max, wanted.disconnect, wanted.source
  ) returning id into new_id;
  return new_id;
end $$;

comment on function turnpike.set_price(text, numeric, numeric, numeric, numeric, numeric, numeric, numeric, numeric, numeric, numeric, numeric, numeric, numeric, numeric, numeric, jsonb, numeric, numeric, numeric, numeric, numeric, jsonb, jsonb, jsonb, jsonb, text, bigint, boolean, bigint, bigint, text, timestamptz, text) is
  'A new version of a model''s price, USD per 1,000,000 tokens or characters, per minute, per minute of video by its size ({"1792x1024": 30}), per 1,000,000 trained tokens, and for each page, query, request, image ({"1024x1024/hd": 0.08, "*": 0.04}) and tool call ({"web_search": 0.01}); regions and speeds are multipliers of tokens ({"us": 1.1}). From now or from valid_from; the version in force is closed. context_window and output_max are facts about the model: left out, they stay as in the version in force of the same model, tier and min_context. Returns its id; setting what stands already changes nothing and returns that version''s. A scheduled version stays.';

revoke all on function turnpike.set_price from public;
-- turnpike.grant_roles() names it too, for roles that are made later.
do $$
begin
  if exists (select from pg_roles where rolname = 'turnpike_admin') then
    grant execute on function turnpike.set_price to turnpike_admin;
  end if;
end $$;
