//! What operators read: structured lines on standard error and, where a
//! collector is configured, traces over OTLP.
//!
//! A span tells which method was called, for how long and with what outcome:
//! never who called, and nothing of a message.

use std::io::IsTerminal;
use std::time::Duration;

use http::HeaderMap;
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::HeaderExtractor;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// What is logged unless `RUST_LOG` says otherwise.
const DEFAULT_FILTER: &str = "info,sqlx=warn,async_nats=warn,opentelemetry=warn";
/// The variable that names the collector (OpenTelemetry's own). Its others,
/// such as `OTEL_TRACES_SAMPLER`, hold too.
const COLLECTOR: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
/// How long the last spans may take to leave at the end.
const FLUSH: Duration = Duration::from_secs(1);

/// How lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For collectors: one JSON object a line.
    Json,
}

/// Keeps telemetry going; the last spans leave when it is dropped.
#[must_use]
pub struct Telemetry(Option<SdkTracerProvider>);

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(provider) = &self.0
            && let Err(error) = provider.shutdown_with_timeout(FLUSH)
        {
            tracing::warn!(%error, "the last traces did not leave");
        }
    }
}

/// Begins to log and, where a collector is configured, to trace.
pub fn init(service: &str, format: Format) -> Telemetry {
    let provider = collector(service);
    let traces = provider
        .as_ref()
        .map(|provider| tracing_opentelemetry::layer().with_tracer(provider.tracer("samen")));
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    // Colours are for people who look, not for files.
    let colours = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colours);
    let registry = tracing_subscriber::registry().with(filter).with(traces);
    let _ = match format {
        Format::Text => registry.with(lines.with_target(false).compact()).try_init(),
        Format::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
    Telemetry(provider)
}

/// Continues the caller's trace (W3C `traceparent`), where there is one.
pub fn continue_trace(span: &Span, headers: &HeaderMap) {
    if headers.contains_key("traceparent") {
        let parent = opentelemetry::global::get_text_map_propagator(|propagator| {
            propagator.extract(&HeaderExtractor(headers))
        });
        // Fails only where nothing is traced.
        let _ = span.set_parent(parent);
    }
}

fn collector(service: &str) -> Option<SdkTracerProvider> {
    std::env::var_os(COLLECTOR)?;
    let exporter = match SpanExporter::builder().with_tonic().build() {
        Ok(exporter) => exporter,
        Err(error) => {
            eprintln!("samen: {COLLECTOR}: {error}; nothing is traced");
            return None;
        }
    };
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    let resource = Resource::builder().with_service_name(format!("samen-{service}")).build();
    Some(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}
