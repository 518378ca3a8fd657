//! (Being written.)
use samen_log::{Location, Log};
use samen_server::Deployment;
pub const NAME: &str = "participation";
pub const SERVICES: [&str; 1] = ["samen.log.v1.LogService"];
pub struct Participation(Log, Deployment);
impl Participation {
    pub async fn start(d: Deployment, l: &Location) -> Result<Self, sqlx::Error> {
        Ok(Self(Log::open(l, &d.log_id(NAME), d.shutdown.clone()).await?, d))
    }
    pub fn log(&self) -> &Log {
        &self.0
    }
    pub fn routes(&self) -> tonic::service::Routes {
        tonic::service::Routes::new(samen_server::log_service::LogDoor::new(self.0.clone(), self.1.clone()))
    }
}
