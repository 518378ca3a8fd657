//! What people are told, as the inbox and channels read it.

use std::collections::HashMap;

use samen_proto::notices::NoticeKind;
use samen_proto::requests::{Reporter, Text};
use samen_server::Core;
use samen_server::notices::{Contact, Inbox, NoticeRow};
use samen_server::reply;
use tonic::Status as Refusal;

use super::history::texts;
use crate::Requests;
use crate::projection::history;
use crate::projection::queries::{self, Visible};

impl Inbox for Requests {
    fn core(&self) -> &Core {
        self
    }

    async fn texts(&self, positions: &[u64]) -> Result<HashMap<u64, String>, Refusal> {
        let rows = history::at(&self.store.schema(), positions).await.map_err(reply::storage)?;
        let found = texts(self, &rows).await?.into_iter();
        let open = |text: Option<Text>| text.map(|text| text.text);
        Ok(found.filter_map(|found| Some((found.position, open(found.text)?))).collect())
    }

    async fn contact(&self, notice: &NoticeRow) -> Result<Contact, Refusal> {
        // Whom it escalates to is staff, and no reporter.
        if notice.kind == NoticeKind::Escalation {
            return Ok(Contact::default());
        }
        let id = notice.about.split_once('/').map_or("", |(_, id)| id);
        let row = queries::get(&self.store.schema(), &Visible::All, id).await;
        let Some(row) = row.map_err(reply::storage)? else { return Ok(Contact::default()) };
        if !row.body.handling.is_some_and(|handling| handling.contact_consent) {
            return Ok(Contact::default());
        }
        let reporter: Reporter = self.open(&row.reporter).await?.unwrap_or_default();
        Ok(Contact { email: reporter.email, phone: reporter.phone })
    }
}
