//! Traces: each call leaves one, and nothing about anybody is in it.

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use samen_tests::deployment::{Deployment, Setup};
use samen_tests::eventually;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use super::in_both_setups;
use super::shared::{SOON, report};

in_both_setups!(calls_are_traced_without_a_word_about_anybody);

/// Keeps what it is sent.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().await.push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn calls_are_traced_without_a_word_about_anybody(setup: Setup) {
    const CALLERS_TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("its address"));
    let collector = Collector::default();
    let server = Server::builder()
        .add_service(TraceServiceServer::new(collector.clone()))
        .serve_with_incoming(TcpIncoming::from(listener));
    tokio::spawn(server);

    let mut deployment = Deployment::start_traced(setup, &url).await;
    let mut resident = deployment.requests("zoe-subject", &["resident"]).await;
    let mut command = Request::new(report("Een woord dat niemand anders kent"));
    let parent = format!("00-{CALLERS_TRACE}-00f067aa0ba902b7-01");
    command.metadata_mut().insert("traceparent", parent.parse().expect("printable"));
    resident.file_request(command).await.expect("filed");
    // What was not sent yet leaves at the end.
    deployment.stop().await;

    let sent = eventually(SOON, "the call's span arrives", async || {
        let sent = collector.0.lock().await.clone();
        let all = format!("{sent:?}");
        all.contains("/samen.requests.v1.RequestService/FileRequest").then_some((sent, all))
    });
    let (sent, all) = sent.await;
    let spans = sent
        .iter()
        .flat_map(|request| &request.resource_spans)
        .flat_map(|resource| &resource.scope_spans)
        .flat_map(|scope| &scope.spans);
    let traces: Vec<String> = spans
        .filter(|span| span.name.ends_with("/FileRequest"))
        .map(|span| span.trace_id.iter().map(|byte| format!("{byte:02x}")).collect())
        .collect();
    assert_eq!(traces, [CALLERS_TRACE]);
    for word in ["woord", "Zoë", "zoe@example.org", "zoe-subject", "eyJ"] {
        assert!(!all.contains(word), "{word} is in a trace");
        for process in &deployment.processes {
            assert!(!process.output().contains(word), "{word} is in a log line");
        }
    }
}
