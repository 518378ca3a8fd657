//! Who may call what: one layer in front of every method.
//!
//! The rule stands in the contract, as an option of the method. A method that
//! does not say who may call it is closed; health and reflection, which tell
//! nothing about anybody, are open.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::{Extensions, HeaderMap, Request, Response};
use samen_proto::contract;
use samen_proto::options::Role;
use tonic::body::Body;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use tower::{Layer, Service};
use tracing::{Instrument, Span};

use crate::identity::{Caller, Certificate, IdentityError, Verifier, role_name};
use crate::reply::{DOMAIN, status};
use crate::telemetry;

/// Services of the gRPC project itself that anybody may call.
const OPEN: [&str; 2] = ["/grpc.health.v1.Health/", "/grpc.reflection.v1.ServerReflection/"];

/// Lets a call through, with its [`Caller`], or refuses it.
#[derive(Clone)]
pub struct AccessLayer {
    verifier: Arc<Verifier>,
}

#[derive(Clone)]
pub struct Access<S> {
    inner: S,
    verifier: Arc<Verifier>,
}

impl AccessLayer {
    pub fn new(verifier: Arc<Verifier>) -> Self {
        AccessLayer { verifier }
    }
}

impl<S> Layer<S> for AccessLayer {
    type Service = Access<S>;

    fn layer(&self, inner: S) -> Access<S> {
        Access { inner, verifier: self.verifier.clone() }
    }
}

impl<S> Service<Request<Body>> for Access<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let ready = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, ready);
        let verifier = self.verifier.clone();
        let path = request.uri().path();
        let span = tracing::info_span!(
            "call",
            otel.name = path,
            otel.kind = "server",
            rpc.system = "grpc",
            rpc.grpc.status_code = tracing::field::Empty,
        );
        telemetry::continue_trace(&span, request.headers());
        Box::pin(
            async move {
                let path = request.uri().path();
                if !OPEN.iter().any(|open| path.starts_with(open)) {
                    let headers = request.headers();
                    match admit(&verifier, path, headers, request.extensions()).await {
                        Ok(caller) => drop(request.extensions_mut().insert(caller)),
                        Err(refusal) => {
                            Span::current().record("rpc.grpc.status_code", refusal.code() as i32);
                            return Ok(refusal.into_http());
                        }
                    }
                }
                let response = inner.call(request).await?;
                // A stream, or an answer, that goes well says so at its end.
                let refusal = Status::from_header_map(response.headers());
                let code = refusal.map_or(Code::Ok, |refusal| refusal.code());
                Span::current().record("rpc.grpc.status_code", code as i32);
                Ok(response)
            }
            .instrument(span),
        )
    }
}

/// The caller, if they may call this.
async fn admit(
    verifier: &Verifier,
    path: &str,
    headers: &HeaderMap,
    extensions: &Extensions,
) -> Result<Arc<Caller>, Status> {
    let roles = contract::access(path)
        .ok_or_else(|| Status::unimplemented(format!("there is no method {path}")))?;
    let caller = match bearer(headers)? {
        Some(token) => verifier.verify(token).await.map_err(|error| match error {
            IdentityError::Token => unauthenticated(&error.to_string()),
            IdentityError::Keys => Status::unavailable(error.to_string()),
        })?,
        None => match certificate(extensions) {
            Some(certificate) => Arc::new(Caller {
                id: certificate.oin.clone(),
                roles: vec![Role::Partner],
                certificate: Some(certificate),
                expires: None,
            }),
            None if roles == [Role::Partner] => {
                return Err(unauthenticated("this needs a client certificate that we know"));
            }
            None => {
                return Err(unauthenticated("send `authorization: Bearer` with a token"));
            }
        },
    };
    if caller.has_any(roles) {
        return Ok(caller);
    }
    if roles == [Role::Partner] {
        // Whoever is not a partner learns nothing about partners.
        return Err(unauthenticated("this needs a client certificate that we know"));
    }
    let needed: Vec<_> = roles.iter().map(|role| role_name(*role)).collect();
    let needed = needed.join(", ");
    let mut details = ErrorDetails::new();
    details.set_error_info("ROLE_MISSING", DOMAIN, [("roles".to_owned(), needed.clone())]);
    Err(Status::with_error_details(
        Code::PermissionDenied,
        format!("this needs one of the roles: {needed}"),
        details,
    ))
}

fn unauthenticated(message: &str) -> Status {
    status(Code::Unauthenticated, "TOKEN_INVALID", message)
}

fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Status> {
    let Some(header) = headers.get(http::header::AUTHORIZATION) else { return Ok(None) };
    let token = header.to_str().ok().and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    token.map(Some).ok_or_else(|| unauthenticated("send `authorization: Bearer` with a token"))
}

/// The client certificate, whose chain the TLS handshake has verified.
fn certificate(extensions: &Extensions) -> Option<Certificate> {
    let tls = extensions.get::<TlsConnectInfo<TcpConnectInfo>>()?;
    let certificates = tls.peer_certs()?;
    Certificate::from_der(certificates.first()?)
}

/// Who makes this call, as the layer found.
pub fn caller<T>(request: &tonic::Request<T>) -> Result<Arc<Caller>, Status> {
    let caller = request.extensions().get::<Arc<Caller>>().cloned();
    caller.ok_or_else(|| Status::internal("this method is not behind the access layer"))
}
