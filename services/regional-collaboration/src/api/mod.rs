//! The gRPC handlers: [`regional`] for staff, [`feed`] and [`erasures`] for
//! partners.

mod erasures;
pub mod feed;
pub mod regional;

type Answer<T> = Result<tonic::Response<T>, tonic::Status>;
