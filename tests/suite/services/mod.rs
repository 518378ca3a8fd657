//! The services through their public doors, in both set-ups.
//!
//! Each test is written once, for a set-up that it is given.

mod backup;
mod catalogue;
mod dashboard;
mod erasures;
mod faults;
mod feed;
mod forgetting;
mod handling;
mod import;
mod networks;
mod notices;
mod open311;
mod operations;
mod participation;
mod photos;
mod reconcilers;
mod requests;
mod shared;
mod streams;
mod traces;
mod verify;

/// Makes a test for each set-up of an async function that takes one.
macro_rules! in_both_setups {
    ($($name:ident),+ $(,)?) => {
        mod all_in_one {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(samen_tests::deployment::Setup::AllInOne).await;
            })+
        }
        mod separate {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(samen_tests::deployment::Setup::Separate).await;
            })+
        }
    };
}
pub(crate) use in_both_setups;
