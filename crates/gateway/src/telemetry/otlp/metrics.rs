//! Metrics as a collector takes them: the families of `/metrics`, each under its own name.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{Request, header};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    metrics::v1::{
        AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
        ResourceMetrics, ScopeMetrics, Sum, metric::Data, number_data_point,
    },
    resource::v1::Resource as ProtoResource,
};
use opentelemetry_sdk::Resource;
use prost::Message as _;

/// What stays the same from one set of metrics to the next.
pub(super) struct Pushed {
    resource: ProtoResource,
    headers: Vec<(String, String)>,
    /// Since when counters count.
    started_ns: u64,
}

impl Pushed {
    pub(super) fn new(resource: &Resource, headers: Vec<(String, String)>) -> Self {
        let attributes = resource
            .iter()
            .map(|(key, value)| pair(key.as_str(), &value.as_str()))
            .collect();
        Self {
            resource: ProtoResource {
                attributes,
                ..ProtoResource::default()
            },
            headers,
            started_ns: now_ns(),
        }
    }

    /// A request that carries these metrics.
    pub(super) fn request(&self, text: &str) -> Request<Bytes> {
        let message = ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                resource: Some(self.resource.clone()),
                scope_metrics: vec![ScopeMetrics {
                    scope: Some(InstrumentationScope {
                        name: "turnpike".to_owned(),
                        ..InstrumentationScope::default()
                    }),
                    metrics: families(text, self.started_ns, now_ns()),
                    ..ScopeMetrics::default()
                }],
                ..ResourceMetrics::default()
            }],
        };
        let mut request = Request::new(Bytes::from(message.encode_to_vec()));
        *request.method_mut() = http::Method::POST;
        let headers = request.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            header::HeaderValue::from_static("application/x-protobuf"),
        );
        for (name, value) in &self.headers {
            // The settings have been checked.
            if let (Ok(name), Ok(value)) = (
                header::HeaderName::try_from(name),
                header::HeaderValue::try_from(value),
            ) {
                headers.insert(name, value);
            }
        }
        request
    }
}

/// The families of our own text. Only what `prometheus-client` writes has to be understood.
fn families(text: &str, started_ns: u64, now_ns: u64) -> Vec<Metric> {
    let mut families = Vec::new();
    let mut help = "";
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(said) = line.strip_prefix("# HELP ") {
            help = said.split_once(' ').map_or("", |(_, help)| help);
        }
        let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|line| line.split_once(' '))
        else {
            continue;
        };
        let mut samples = Vec::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            samples.extend(Sample::parse(name, line));
        }
        let data = match kind {
            "counter" => Data::Sum(Sum {
                data_points: numbers(samples, started_ns, now_ns),
                aggregation_temporality: AggregationTemporality::Cumulative.into(),
                is_monotonic: true,
            }),
            "gauge" => Data::Gauge(Gauge {
                data_points: numbers(samples, 0, now_ns),
            }),
            "histogram" => Data::Histogram(Histogram {
                data_points: histograms(samples, started_ns, now_ns),
                aggregation_temporality: AggregationTemporality::Cumulative.into(),
            }),
            _ => continue,
        };
        families.push(Metric {
            name: name.to_owned(),
            description: help.trim_end_matches('.').to_owned(),
            unit: if name.ends_with("_seconds") { "s" } else { "" }.to_owned(),
            data: Some(data),
            ..Metric::default()
        });
    }
    families
}

/// One line.
#[derive(Debug, PartialEq)]
struct Sample<'a> {
    /// What stands behind the family's name: `_total`, `_bucket`, …
    suffix: &'a str,
    labels: Vec<(String, String)>,
    value: &'a str,
}

impl<'a> Sample<'a> {
    fn parse(family: &str, line: &'a str) -> Option<Self> {
        let rest = line.strip_prefix(family)?;
        let end = rest.find(['{', ' '])?;
        let (suffix, mut rest) = rest.split_at(end);
        let mut labels = Vec::new();
        if let Some(inner) = rest.strip_prefix('{') {
            rest = inner;
            while !rest.starts_with('}') {
                let (name, value) = rest.trim_start_matches(',').split_once("=\"")?;
                let (value, after) = unquoted(value)?;
                labels.push((name.to_owned(), value));
                rest = after;
            }
            rest = rest.get(1..)?;
        }
        let value = rest.trim().split(' ').next()?;
        Some(Self {
            suffix,
            labels,
            value,
        })
    }

    fn point(&self) -> number_data_point::Value {
        match self.value.parse() {
            Ok(whole) => number_data_point::Value::AsInt(whole),
            Err(_) => number_data_point::Value::AsDouble(self.value.parse().unwrap_or_default()),
        }
    }
}

/// A label's value up to its quote, and what follows that.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, text.get(at..)?.get(1..)?)),
            '\\' => value.push(match letters.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

fn numbers(samples: Vec<Sample<'_>>, started_ns: u64, now_ns: u64) -> Vec<NumberDataPoint> {
    let points = samples.into_iter().map(|sample| NumberDataPoint {
        attributes: pairs(&sample.labels),
        start_time_unix_nano: started_ns,
        time_unix_nano: now_ns,
        value: Some(sample.point()),
        ..NumberDataPoint::default()
    });
    points.collect()
}

/// Buckets that count what is below their edge become such that count what is between two.
fn histograms(samples: Vec<Sample<'_>>, started_ns: u64, now_ns: u64) -> Vec<HistogramDataPoint> {
    let mut points: BTreeMap<Vec<(String, String)>, (HistogramDataPoint, u64)> = BTreeMap::new();
    for mut sample in samples {
        let edge = sample.labels.iter().position(|(name, _)| name == "le");
        let edge = edge.map(|at| sample.labels.remove(at).1);
        let (point, below) = points.entry(sample.labels.clone()).or_default();
        match (sample.suffix, edge) {
            ("_sum", None) => point.sum = sample.value.parse().ok(),
            ("_count", None) => point.count = sample.value.parse().unwrap_or_default(),
            ("_bucket", Some(edge)) => {
                let count: u64 = sample.value.parse().unwrap_or_default();
                point.bucket_counts.push(count.saturating_sub(*below));
                *below = count;
                if let Some(edge) = edge.parse().ok().filter(|edge: &f64| edge.is_finite()) {
                    point.explicit_bounds.push(edge);
                }
            }
            _ => {}
        }
    }
    let points = points
        .into_iter()
        .map(|(labels, (point, _))| HistogramDataPoint {
            attributes: pairs(&labels),
            start_time_unix_nano: started_ns,
            time_unix_nano: now_ns,
            ..point
        });
    points.collect()
}

fn pairs(labels: &[(String, String)]) -> Vec<KeyValue> {
    let pairs = labels.iter().map(|(name, value)| pair(name, value));
    pairs.collect()
}

fn pair(name: &str, value: &str) -> KeyValue {
    KeyValue {
        key: name.to_owned(),
        value: Some(AnyValue {
            value: Some(any_value::Value::StringValue(value.to_owned())),
        }),
        ..KeyValue::default()
    }
}

fn now_ns() -> u64 {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_prometheus_reads_is_what_the_collector_gets() {
        let text = "# HELP t_a How often.\n# TYPE t_a counter\nt_a_total{b=\"x\\\"y\\\\,}\",c=\"\"} 18446744073\nt_a_total 2\n\
            # HELP t_g Now.\n# TYPE t_g gauge\nt_g -1\n\
            # HELP t_seconds Long.\n# TYPE t_seconds histogram\nt_seconds_sum 1.5\nt_seconds_count 3\n\
            t_seconds_bucket{le=\"0.1\"} 1\nt_seconds_bucket{le=\"2.5\"} 3\nt_seconds_bucket{le=\"+Inf\"} 3\n# EOF\n";
        let families = families(text, 1, 2);
        let names: Vec<_> = families
            .iter()
            .map(|it| (&*it.name, &*it.description, &*it.unit))
            .collect();
        assert_eq!(
            names,
            [
                ("t_a", "How often", ""),
                ("t_g", "Now", ""),
                ("t_seconds", "Long", "s")
            ]
        );
        let Some(Data::Sum(sum)) = &families[0].data else {
            panic!("a sum")
        };
        assert_eq!(
            sum.data_points[0].attributes,
            [pair("b", "x\"y\\,}"), pair("c", "")]
        );
        assert_eq!(
            sum.data_points[0].value,
            Some(number_data_point::Value::AsInt(18_446_744_073))
        );
        assert_eq!(sum.data_points.len(), 2);
        let Some(Data::Gauge(gauge)) = &families[1].data else {
            panic!("a gauge")
        };
        assert_eq!(
            gauge.data_points[0].value,
            Some(number_data_point::Value::AsInt(-1))
        );
        let Some(Data::Histogram(histogram)) = &families[2].data else {
            panic!("a histogram")
        };
        let point = &histogram.data_points[0];
        assert_eq!((point.count, point.sum), (3, Some(1.5)));
        assert_eq!(point.bucket_counts, [1, 2, 0]);
        assert_eq!(point.explicit_bounds, [0.1, 2.5]);
    }
}
