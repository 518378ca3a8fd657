//! The catalogue, the organisation and the routing.

use samen_log::{Aggregates, Command, CommandError, Outcome};
use samen_proto::requests::catalogue_service_server::CatalogueService;
use samen_proto::requests::*;
use samen_server::access::caller;
use samen_server::calls::{self, wait};
use samen_server::reply::{self, Check};
use tonic::{Request, Response, Status as Refusal};

use super::Answer;
use crate::Requests;
use crate::domain::catalogue::{self, Rejection, check_category};

/// Under which id the one organisation and the one routing stand.
pub const ALL: &str = "all";

#[tonic::async_trait]
impl CatalogueService for Requests {
    async fn define_category(
        &self,
        r: Request<DefineCategoryRequest>,
    ) -> Answer<DefineCategoryResponse> {
        let caller = caller(&r)?;
        let m = r.into_inner();
        let category = m.category.clone().unwrap_or_default();
        let register = self.registered.newest().await?;
        let mut check = Check::default();
        check.request_id(&m.request_id);
        check_category(&mut check, &category, &register.organisation);
        check.finish()?;
        let command = calls::command(&caller, "DefineCategory", &m.request_id, &m);
        let done = does(self, &self.categories, command, &category.code, |state, version| {
            catalogue::define(state, version, m.expected_version, category.clone())
        });
        let Outcome { version, position, .. } = done.await?;
        Ok(Response::new(DefineCategoryResponse { version, position: Some(position) }))
    }

    async fn retire_category(
        &self,
        r: Request<RetireCategoryRequest>,
    ) -> Answer<RetireCategoryResponse> {
        let caller = caller(&r)?;
        let m = r.into_inner();
        let mut check = Check::default();
        check.request_id(&m.request_id);
        super::check::category_of(&mut check, "code", &m.code);
        check.finish()?;
        let command = calls::command(&caller, "RetireCategory", &m.request_id, &m);
        let done = does(self, &self.categories, command, &m.code, |state, version| {
            catalogue::retire(state, version, m.expected_version, &m.code)
        });
        let Outcome { version, position, .. } = done.await?;
        Ok(Response::new(RetireCategoryResponse { version, position: Some(position) }))
    }

    async fn list_categories(
        &self,
        r: Request<ListCategoriesRequest>,
    ) -> Answer<ListCategoriesResponse> {
        let m = r.into_inner();
        wait(self, m.at_least.as_ref()).await?;
        let register = self.registered.newest().await?;
        let categories = register.categories.values().filter(|view| m.retired || !view.retired);
        Ok(Response::new(ListCategoriesResponse { categories: categories.cloned().collect() }))
    }

    async fn define_organisation(
        &self,
        r: Request<DefineOrganisationRequest>,
    ) -> Answer<DefineOrganisationResponse> {
        let caller = caller(&r)?;
        let m = r.into_inner();
        let organisation = m.organisation.clone().unwrap_or_default();
        let register = self.registered.newest().await?;
        let mut check = Check::default();
        check.request_id(&m.request_id);
        catalogue::check_organisation(&mut check, &organisation);
        // What is in use stays: who was pointed to would be nobody.
        for code in register.departments_in_use() {
            let there = organisation.departments.iter().any(|d| d.code == code);
            let allowed = format!("must have {code}, which categories name");
            check.require(there, "organisation.departments", &allowed);
        }
        for code in register.teams_in_use() {
            let there = organisation.teams.iter().any(|team| team.code == code);
            let allowed = format!("must have {code}, which rules of routing name");
            check.require(there, "organisation.teams", &allowed);
        }
        check.finish()?;
        let command = calls::command(&caller, "DefineOrganisation", &m.request_id, &m);
        let done = does(self, &self.organisation, command, ALL, |state, version| {
            catalogue::seen(m.expected_version, version)?;
            let organisation = Some(organisation.clone());
            let same = organisation.as_ref() == Some(&state.0) && version > 0;
            let defined = OrganisationDefined { organisation };
            Ok(if same { Vec::new() } else { vec![defined.into()] })
        });
        let Outcome { version, position, .. } = done.await?;
        Ok(Response::new(DefineOrganisationResponse { version, position: Some(position) }))
    }

    async fn get_organisation(
        &self,
        r: Request<GetOrganisationRequest>,
    ) -> Answer<GetOrganisationResponse> {
        wait(self, r.into_inner().at_least.as_ref()).await?;
        let register = self.registered.newest().await?;
        Ok(Response::new(GetOrganisationResponse {
            organisation: Some(register.organisation.clone()),
            version: register.organisation_version,
        }))
    }

    async fn define_routing(
        &self,
        r: Request<DefineRoutingRequest>,
    ) -> Answer<DefineRoutingResponse> {
        let caller = caller(&r)?;
        let m = r.into_inner();
        let routing = m.routing.clone().unwrap_or_default();
        let register = self.registered.newest().await?;
        let mut check = Check::default();
        check.request_id(&m.request_id);
        let is_network = |id: &str| register.network(id).is_some();
        let area = &self.deployment.area;
        let organisation = &register.organisation;
        catalogue::check_routing(&mut check, &routing, organisation, is_network, area);
        check.finish()?;
        let command = calls::command(&caller, "DefineRouting", &m.request_id, &m);
        let done = does(self, &self.routing, command, ALL, |state, version| {
            catalogue::seen(m.expected_version, version)?;
            let routing = Some(routing.clone());
            let same = routing.as_ref() == Some(&state.0) && version > 0;
            Ok(if same { Vec::new() } else { vec![RoutingDefined { routing }.into()] })
        });
        let Outcome { version, position, .. } = done.await?;
        Ok(Response::new(DefineRoutingResponse { version, position: Some(position) }))
    }

    async fn get_routing(&self, r: Request<GetRoutingRequest>) -> Answer<GetRoutingResponse> {
        wait(self, r.into_inner().at_least.as_ref()).await?;
        let register = self.registered.newest().await?;
        Ok(Response::new(GetRoutingResponse {
            routing: Some(register.routing.clone()),
            version: register.routing_version,
        }))
    }
}

/// Does it, and goes by it from here on.
async fn does<A: samen_log::Aggregate>(
    service: &Requests,
    of: &Aggregates<A>,
    command: Command,
    id: &str,
    decide: impl Fn(&A, u64) -> Result<Vec<A::Event>, Rejection>,
) -> Result<Outcome, Refusal> {
    let done = of.execute(command, id, |state, version| decide(state, version).map(Into::into));
    let outcome = done.await.map_err(|error: CommandError<Rejection>| reply::command(error))?;
    service.registered.catch_up().await;
    Ok(outcome)
}
