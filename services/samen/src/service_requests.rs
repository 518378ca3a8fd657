//! What an operator says about service requests.

use std::path::{Path, PathBuf};

use clap::Args;
use samen_requests::photos::PhotoStore;
use samen_requests::{Settings, open311, seed};
use samen_server::area::Area;

use crate::services::read;
use crate::usage::{Misconfigured, wrong};

#[derive(Args, Clone)]
pub struct RequestSettings {
    /// What can be reported, where there is no catalogue yet: a JSON file,
    /// `shipped`, or `none`
    #[arg(long, env = "SAMEN_CATALOGUE", default_value = "shipped", value_name = "CATALOGUE")]
    catalogue: String,
    /// Where photos are kept: a folder, or `s3://BUCKET/PREFIX` with AWS_*
    /// variables; `samen up` keeps them in its data folder
    #[arg(long, env = "SAMEN_PHOTOS", value_name = "PLACE")]
    photos: Option<String>,
    /// Who may report over Open311 and where that is: a JSON file with keys'
    /// hashes and quotas. Without it, apps can read and nobody can report
    #[arg(long, env = "SAMEN_OPEN311", value_name = "FILE")]
    open311: Option<PathBuf>,
}

impl RequestSettings {
    /// What they mean for a municipality with these neighbourhoods; photos are
    /// kept in `folder` where no other place is named.
    pub fn open(self, area: &Area, folder: Option<&Path>) -> Result<Settings, Misconfigured> {
        let catalogue = match self.catalogue.as_str() {
            "shipped" => Some(seed::shipped(area)),
            "none" => None,
            file => Some(seed::parse(&read("SAMEN_CATALOGUE", Path::new(file))?, area)),
        };
        let photos = match (&self.photos, folder) {
            (Some(place), _) => Some(PhotoStore::open(place)),
            (None, Some(folder)) => Some(PhotoStore::folder(folder)),
            (None, None) => None,
        };
        let open311 = match &self.open311 {
            Some(file) => open311::Settings::parse(&read("SAMEN_OPEN311", file)?),
            None => Ok(open311::Settings::default()),
        };
        Ok(Settings {
            catalogue: catalogue.transpose().map_err(wrong("SAMEN_CATALOGUE"))?,
            photos: photos.transpose().map_err(wrong("SAMEN_PHOTOS"))?,
            open311: open311.map_err(wrong("SAMEN_OPEN311"))?,
        })
    }
}
