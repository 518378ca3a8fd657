//! The contract, compiled: messages, clients and servers of every package, and
//! what the contract says about itself.
//!
//! - the packages, as modules of the same name;
//! - [`contract`]: who may call a method, which events leave the house, which
//!   fields are sealed or personal.

pub mod contract;

/// `samen.*`
#[allow(clippy::large_enum_variant, clippy::doc_lazy_continuation)]
pub mod samen {
    /// `samen.options.v1`: the contract's own options.
    pub mod options {
        #[allow(missing_docs)]
        pub mod v1 {
            tonic::include_proto!("samen.options.v1");
        }
    }
    /// `samen.log.v1`: positions, records, sealed content.
    pub mod log {
        #[allow(missing_docs)]
        pub mod v1 {
            tonic::include_proto!("samen.log.v1");
        }
    }
    /// `samen.operations.v1`: what operators see and do.
    pub mod operations {
        #[allow(missing_docs)]
        pub mod v1 {
            tonic::include_proto!("samen.operations.v1");
        }
    }
    /// `samen.privacy.v1`: what a person may ask of those who hold their data.
    pub mod privacy {
        #[allow(missing_docs)]
        pub mod v1 {
            tonic::include_proto!("samen.privacy.v1");
        }
    }
    /// `samen.notices.v1`: what the suite tells a person.
    pub mod notices {
        #[allow(missing_docs)]
        pub mod v1 {
            tonic::include_proto!("samen.notices.v1");
        }
    }
    /// `samen.participation.v1`: processes and contributions.
    pub mod participation {
        #[allow(missing_docs)]
        pub mod v1 {
            tonic::include_proto!("samen.participation.v1");
        }
    }
    /// `samen.requests.v1`: service requests.
    pub mod requests {
        #[allow(missing_docs)]
        pub mod v1 {
            tonic::include_proto!("samen.requests.v1");
        }
    }
    /// `samen.regional.v1`: partners, agreements, the feed.
    pub mod regional {
        #[allow(missing_docs)]
        pub mod v1 {
            tonic::include_proto!("samen.regional.v1");
        }
    }
}

/// `io.cloudevents.v1`: the envelope of what leaves the house.
pub mod io {
    pub mod cloudevents {
        #[allow(missing_docs, clippy::large_enum_variant)]
        pub mod v1 {
            tonic::include_proto!("io.cloudevents.v1");
        }
    }
}

pub use io::cloudevents::v1 as cloudevents;
pub use samen::log::v1 as log;
pub use samen::notices::v1 as notices;
pub use samen::operations::v1 as operations;
pub use samen::options::v1 as options;
pub use samen::participation::v1 as participation;
pub use samen::privacy::v1 as privacy;
pub use samen::regional::v1 as regional;
pub use samen::requests::v1 as requests;
