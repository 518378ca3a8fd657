//! The gRPC handlers: [`regional`] for staff, [`feed`] for partners.

pub mod feed;
pub mod regional;

type Answer<T> = Result<tonic::Response<T>, tonic::Status>;
