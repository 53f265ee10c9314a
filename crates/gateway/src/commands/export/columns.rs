//! The columns of an export: one list for every format.

use std::borrow::Cow;

use jiff::Timestamp;
use ledger::admin::{BUCKETS, NumberedCharge};

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A whole number.
    Int,
    /// A text.
    Text,
    /// Yes or no.
    Bool,
    /// An instant, milliseconds since the epoch.
    Time,
    /// Money, given in nano-USD and told in USD with nine decimals.
    Usd,
}

/// What stands in a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Null,
    Int(i64),
    Text(Cow<'a, str>),
    Bool(bool),
    Time(i64),
    Usd(i64),
}

/// A column.
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) is_nullable: bool,
    value: fn(&NumberedCharge) -> Value<'_>,
}

impl Column {
    pub(super) fn of<'a>(&self, charge: &'a NumberedCharge) -> Value<'a> {
        (self.value)(charge)
    }
}

impl<'a> From<Option<&'a str>> for Value<'a> {
    fn from(text: Option<&'a str>) -> Self {
        text.map_or(Self::Null, |text| Self::Text(text.into()))
    }
}

impl From<Option<i64>> for Value<'_> {
    fn from(number: Option<i64>) -> Self {
        number.map_or(Self::Null, Self::Int)
    }
}

/// An instant as RFC 3339 in UTC, to the millisecond.
pub(super) fn instant(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map_or_else(|_| String::new(), |at| format!("{at:.3}"))
}

const fn column(name: &'static str, kind: Kind, value: fn(&NumberedCharge) -> Value<'_>) -> Column {
    Column {
        name,
        kind,
        is_nullable: false,
        value,
    }
}

const fn nullable(
    name: &'static str,
    kind: Kind,
    value: fn(&NumberedCharge) -> Value<'_>,
) -> Column {
    Column {
        name,
        kind,
        is_nullable: true,
        value,
    }
}

/// A text that is always there.
fn text(text: &str) -> Value<'_> {
    Value::Text(text.into())
}

/// The first is the number, which a file that is gone on with is searched for. The last is always there, so that a torn line shows.
pub(super) const COLUMNS: &[Column] = &[
    column("charge_seq", Kind::Int, |it| Value::Int(it.seq)),
    column("id", Kind::Text, |it| Value::Text(it.id.to_string().into())),
    column("account_id", Kind::Int, |it| Value::Int(it.account_id.0)),
    column("account", Kind::Text, |it| text(&it.account)),
    column("token_id", Kind::Int, |it| Value::Int(it.token_id.0)),
    column("token", Kind::Text, |it| text(&it.token)),
    nullable("token_label", Kind::Text, |it| {
        it.token_label.as_deref().into()
    }),
    column("started_at", Kind::Time, |it| Value::Time(it.started_at_ms)),
    column("settled_at", Kind::Time, |it| Value::Time(it.settled_at_ms)),
    column("endpoint", Kind::Text, |it| text(&it.endpoint)),
    column("model_requested", Kind::Text, |it| {
        text(&it.model_requested)
    }),
    nullable("model_answered", Kind::Text, |it| {
        it.model_answered.as_deref().into()
    }),
    nullable("service_tier", Kind::Text, |it| {
        it.service_tier.as_deref().into()
    }),
    column("stream", Kind::Bool, |it| Value::Bool(it.stream)),
    column("status", Kind::Int, |it| Value::Int(it.status.into())),
    column("mark", Kind::Text, |it| text(&it.mark)),
    column("ending", Kind::Text, |it| text(&it.ending)),
    column("flags", Kind::Int, |it| Value::Int(it.flags.into())),
    column("nano_usd", Kind::Int, |it| Value::Int(it.amount.nano())),
    column("usd", Kind::Usd, |it| Value::Usd(it.amount.nano())),
    column("held_nano_usd", Kind::Int, |it| Value::Int(it.held.nano())),
    nullable("provider_cost_nano_usd", Kind::Int, |it| {
        it.provider_cost.map(tariff::Amount::nano).into()
    }),
    column("price_id", Kind::Int, |it| Value::Int(it.price_id)),
    column(BUCKETS[0], Kind::Int, |it| Value::Int(it.buckets[0])),
    column(BUCKETS[1], Kind::Int, |it| Value::Int(it.buckets[1])),
    column(BUCKETS[2], Kind::Int, |it| Value::Int(it.buckets[2])),
    column(BUCKETS[3], Kind::Int, |it| Value::Int(it.buckets[3])),
    column(BUCKETS[4], Kind::Int, |it| Value::Int(it.buckets[4])),
    column(BUCKETS[5], Kind::Int, |it| Value::Int(it.buckets[5])),
    column(BUCKETS[6], Kind::Int, |it| Value::Int(it.buckets[6])),
    column(BUCKETS[7], Kind::Int, |it| Value::Int(it.buckets[7])),
    column(BUCKETS[8], Kind::Int, |it| Value::Int(it.buckets[8])),
    column(BUCKETS[9], Kind::Int, |it| Value::Int(it.buckets[9])),
    column(BUCKETS[10], Kind::Int, |it| Value::Int(it.buckets[10])),
    column(BUCKETS[11], Kind::Int, |it| Value::Int(it.buckets[11])),
    nullable("upstream", Kind::Text, |it| it.upstream.as_deref().into()),
    nullable("upstream_key_id", Kind::Int, |it| it.upstream_key_id.into()),
    nullable("response_id", Kind::Text, |it| {
        it.response_id.as_deref().into()
    }),
    nullable("head_after_ms", Kind::Int, |it| {
        it.head_after_ms.map(i64::from).into()
    }),
    nullable("first_byte_after_ms", Kind::Int, |it| {
        it.first_byte_after_ms.map(i64::from).into()
    }),
    column("ended_after_ms", Kind::Int, |it| {
        Value::Int(it.ended_after_ms.into())
    }),
];
