-- Money is bigint nano-USD (1e-9 USD) in every table; people write and read USD. These two functions are the only bridge,
-- so that nothing else rounds. Safe: adds functions, touches nothing that runs.

create function turnpike.nano(usd numeric, what text default 'the amount') returns bigint
language plpgsql immutable parallel safe as $$
declare
  scaled numeric;
begin
  if nano.usd is null then
    return null;
  end if;
  if nano.usd in ('NaN', 'Infinity', '-Infinity') then
    raise exception '% is %, not a number of USD', nano.what, nano.usd using errcode = 'invalid_parameter_value';
  end if;
  scaled := nano.usd * 1000000000;
  if scaled <> trunc(scaled) then
    raise exception '% (% USD) is finer than one nano-USD', nano.what, trim_scale(nano.usd)
      using errcode = 'invalid_parameter_value', hint = 'Nine decimals are the most: 0.000000001.';
  end if;
  if abs(scaled) > 9223372036854775807 then
    raise exception '% (% USD) is out of range', nano.what, trim_scale(nano.usd)
      using errcode = 'numeric_value_out_of_range', hint = 'The most is 9223372036.854775807 USD.';
  end if;
  return scaled::bigint;
end $$;

comment on function turnpike.nano(numeric, text) is
  'USD to nano-USD, exactly: refuses NaN, infinities, what is finer than a nano-USD and what does not fit. "what" names the value in the error.';

create function turnpike.usd(nano bigint) returns numeric
language sql immutable parallel safe as $$
  select trim_scale(nano * 0.000000001)
$$;

comment on function turnpike.usd(bigint) is 'Nano-USD to USD, exactly.';

create function turnpike.is_pattern(pattern text) returns boolean
language sql immutable parallel safe as $$
  select coalesce(pattern ~ '^[^*[:cntrl:]]*\*?$' and pattern <> '' and length(pattern) <= 200, false)
$$;

comment on function turnpike.is_pattern(text) is
  'Whether the text names models: an exact name, or a beginning followed by one * at the end.';

create function turnpike.are_patterns(patterns text[]) returns boolean
language sql immutable parallel safe as $$
  select coalesce(bool_and(turnpike.is_pattern(pattern)), false) from unnest(patterns) as pattern
$$;

comment on function turnpike.are_patterns(text[]) is 'Whether the list is not empty and every element names models.';

create function turnpike.are_words(words text[]) returns boolean
language sql immutable parallel safe as $$
  select coalesce(bool_and(coalesce(word ~ '^[^[:space:][:cntrl:]]+$', false)), false) from unnest(words) as word
$$;

comment on function turnpike.are_words(text[]) is 'Whether the list is not empty and no element is null, empty or has white space.';

create function turnpike.refuse_change() returns trigger
language plpgsql as $$
begin
  raise exception 'turnpike.% is append-only', tg_argv[0]
    using errcode = 'object_not_in_prerequisite_state',
          hint = 'Correct it with a new row: select turnpike.top_up(account, usd, note); usd may be negative.';
end $$;

comment on function turnpike.refuse_change() is 'Trigger: refuses update, delete and truncate on tables that only grow.';
