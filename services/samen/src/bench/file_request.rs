//! A whole command: `FileRequest` over a real connection, with a token, against
//! a service that is set up like any other. Then a rebuild of what it wrote.

use std::sync::Arc;

use anyhow::Context;
use samen_proto::options::Role;
use samen_proto::requests::{Channel, FileRequestRequest, Location};
use tonic::Request;
use uuid::Uuid;

use super::load::{Load, Measured};
use super::place::Place;
use super::rebuild;
use super::service::Service;

/// What people report, about as long as what they write.
const DESCRIPTION: &str = "Naast de container bij het winkelcentrum ligt sinds gisteren een bankstel \
     met een paar vuilniszakken. De stoep is daardoor te smal voor een rolstoel.";

/// Commands, and a rebuild of the records that they wrote.
pub async fn measure(
    place: &Place,
    load: Load,
    connections: u16,
) -> anyhow::Result<(Measured, Measured)> {
    let service = Service::start(place).await?;
    let filed = file(&service, load, connections).await?;
    let written = service.log().head();
    let id = service.log().id().to_owned();
    let master = service.master().clone();
    service.end().await?;
    let rebuilt = rebuild::measure(place, &id, &master, written).await.context("rebuild")?;
    Ok((filed, rebuilt))
}

/// Each client files one request after another.
pub async fn file(service: &Service, load: Load, connections: u16) -> anyhow::Result<Measured> {
    let clients: Arc<[_]> = service.clients(connections)?.into();
    let authorization = service.authorization("bench", Role::Handler)?;
    load.run(move |client, call| {
        let mut connection = clients[client % clients.len()].clone();
        let mut request = Request::new(request(client, call));
        request.metadata_mut().insert("authorization", authorization.clone());
        async move {
            connection.file_request(request).await?;
            Ok(())
        }
    })
    .await
}

/// Somewhere in Diemen, in one neighbourhood or another.
fn request(client: usize, call: u64) -> FileRequestRequest {
    let step = (client as u64 * 7 + call) % 100;
    FileRequestRequest {
        request_id: Uuid::now_v7().to_string(),
        category: "afval/grofvuil".to_owned(),
        description: DESCRIPTION.to_owned(),
        location: Some(Location { latitude: 52.335 + step as f64 * 1e-4, longitude: 4.96 }),
        channel: Channel::Phone.into(),
        ..FileRequestRequest::default()
    }
}
