//! What machines read of a process: metrics for Prometheus, and health with
//! its reasons. Served on a port of its own, for the operators' network;
//! nothing there tells about a person.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use jiff::Timestamp;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use samen_proto::operations::{GetStatusResponse, Task, TaskState};
use serde_json::json;

use crate::core::Core;
use crate::operations::status;
use crate::time::micros;

/// What Prometheus expects of a text exposition.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels = Vec<(&'static str, String)>;
/// How many there are of something. Clones share it.
pub type Count = Gauge;
/// The same, by labels.
pub type Counts = Family<Labels, Count>;
type Gauges = Family<Labels, Gauge<f64, AtomicU64>>;

/// The pages `/metrics` and `/healthz` about these services.
pub fn router(services: Vec<Core>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .with_state(Arc::new(services))
}

async fn metrics(State(services): State<Arc<Vec<Core>>>) -> impl IntoResponse {
    let statuses: Vec<_> = services.iter().map(status).collect();
    let mut registry = Registry::with_prefix("samen");
    // All services of a process have one deployment.
    if let Some(Core { deployment, .. }) = services.first() {
        let streams = deployment.streams.open().clone();
        registry.register("open_streams", "Streams that this process serves", streams);
        let connections = deployment.connections.clone();
        registry.register("open_connections", "Connections to this process", connections);
    }
    match exposition(registry, &statuses, Timestamp::now()) {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// 200 while every task goes on, 503 with the reasons when one has met a
/// record that it cannot handle. A task that merely failed tries again, and a
/// restart would not help it.
async fn healthz(State(services): State<Arc<Vec<Core>>>) -> impl IntoResponse {
    let statuses: Vec<_> = services.iter().map(status).collect();
    let healthy = statuses.iter().all(|status| stopped(status).next().is_none());
    let code = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let services: Vec<_> = statuses
        .iter()
        .map(|status| {
            let stopped: Vec<_> = stopped(status)
                .map(|task| {
                    let error = task.error.clone().unwrap_or_default();
                    json!({
                        "task": task.name,
                        "log": error.log,
                        "position": error.position,
                        "type": error.r#type,
                        "error": error.message,
                    })
                })
                .collect();
            json!({ "log": status.log, "head": status.head, "stopped": stopped })
        })
        .collect();
    let body = json!({ "healthy": healthy, "services": services }).to_string();
    (code, [(header::CONTENT_TYPE, "application/json")], body)
}

/// The tasks that go no further.
pub fn stopped(status: &GetStatusResponse) -> impl Iterator<Item = &Task> {
    status.tasks.iter().filter(|task| task.state() == TaskState::Stopped)
}

/// What these services show, beside what the registry has already.
fn exposition(
    mut registry: Registry,
    services: &[GetStatusResponse],
    now: Timestamp,
) -> Result<String, std::fmt::Error> {
    let mut gauges = |name: &str, help: &str| {
        let family = Gauges::default();
        registry.register(name, help, family.clone());
        family
    };
    let head = gauges("log_head", "The newest position of a service's log");
    let epoch = gauges("log_epoch", "The epoch of a service's log");
    let position = gauges("task_position", "How far a task has followed a log");
    let lag = gauges("task_lag", "Records that a task has yet to follow");
    let state = gauges("task_state", "1 for the state that a task is in");
    let age = gauges("task_error_age_seconds", "How long ago a task last failed");
    let failing = gauges("task_failing", "1 while the last failure of a task is not over");
    for status in services {
        let own = vec![("log", status.log.clone())];
        head.get_or_create(&own).set(status.head as f64);
        epoch.get_or_create(&own).set(status.epoch as f64);
        for task in &status.tasks {
            let of = |more: Labels| {
                let service = [("service", status.log.clone()), ("task", task.name.clone())];
                Vec::from_iter(service.into_iter().chain(more))
            };
            for progress in &task.progress {
                let log = of(vec![("log", progress.log.clone())]);
                position.get_or_create(&log).set(progress.position as f64);
                let behind = progress.head.saturating_sub(progress.position);
                lag.get_or_create(&log).set(behind as f64);
            }
            let name = task.state().as_str_name().trim_start_matches("TASK_STATE_").to_lowercase();
            state.get_or_create(&of(vec![("state", name)])).set(1.0);
            if let Some(error) = &task.error {
                let then = error.time.as_ref().map_or(0, micros);
                let seconds = (now.as_microsecond() - then) as f64 / 1e6;
                age.get_or_create(&of(Vec::new())).set(seconds.max(0.0));
                failing.get_or_create(&of(Vec::new())).set(f64::from(u8::from(!error.over)));
            }
        }
    }
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use samen_log::record::timestamp;
    use samen_proto::operations::{Progress, TaskError};

    use super::*;

    #[test]
    fn what_tasks_show_is_what_machines_read() {
        let task = Task {
            name: "relay".into(),
            state: TaskState::Failing.into(),
            progress: vec![Progress {
                log: "gm0384.requests".into(),
                epoch: 1,
                position: 7,
                head: 10,
            }],
            error: Some(TaskError { time: Some(timestamp(1_000_000)), ..TaskError::default() }),
            ..Task::default()
        };
        let status = GetStatusResponse {
            log: "gm0384.requests".into(),
            head: 10,
            tasks: vec![task],
            ..GetStatusResponse::default()
        };
        let now = Timestamp::from_microsecond(3_000_000).expect("a moment");
        let text = exposition(Registry::with_prefix("samen"), &[status], now).expect("text");
        let of = r#"service="gm0384.requests",task="relay""#;
        for line in [
            r#"samen_log_head{log="gm0384.requests"} 10.0"#.to_owned(),
            format!(r#"samen_task_lag{{{of},log="gm0384.requests"}} 3.0"#),
            format!(r#"samen_task_state{{{of},state="failing"}} 1.0"#),
            format!("samen_task_error_age_seconds{{{of}}} 2.0"),
        ] {
            assert!(text.contains(&line), "{line} is not in\n{text}");
        }
    }
}
