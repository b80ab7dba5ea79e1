//! The catalogue service: versions, documents, blobs.

use std::sync::Arc;

use bytes::Bytes;
use reckoner_client::proto::catalogue_server::Catalogue;
use reckoner_client::proto::{
    BlobReply, BlobRequest, CatalogueVersion, ListCataloguesReply, ListCataloguesRequest, ShowCatalogueReply,
    ShowCatalogueRequest, Version,
};
use reckoner_shard::base::refusal::{Reason, Refusal};
use reckoner_shard::base::time::CycleId;
use reckoner_shard::pricing::document::CatalogueDocument;
use tonic::{Request, Response, Status, async_trait};

use super::status::Trouble;
use crate::context::Context;
use crate::data::reach;
use crate::meta::command::CatalogueRow;
use crate::store::content::Hash;
use crate::workers;

/// The door.
pub struct Door(pub Arc<Context>);

impl Door {
    async fn version_out(&self, row: &CatalogueRow) -> Result<CatalogueVersion, Trouble> {
        let hash = hash_in(&row.hash)?;
        let unavailable = |why: String| Trouble::unavailable(format!("catalogue {}: {why}", row.name));
        let bytes = reach::blob(&self.0, &hash).await.map_err(unavailable)?;
        let document: CatalogueDocument = serde_json::from_slice(&bytes).map_err(|why| unavailable(why.to_string()))?;
        let mut shards = Vec::new();
        for shard in self.0.shards.all() {
            let read = shard.view(None).await.map_err(|error| Trouble::of_group(error, shard.id().0, 0))?;
            if read.view.catalogues.values().flatten().any(|known| known.hash == hash) {
                shards.push(shard.id().0);
            }
        }
        Ok(CatalogueVersion {
            version: Some(Version { name: row.name.clone(), version: row.version, hash: row.hash.clone() }),
            effective: CycleId::from_ordinal(row.effective).map_or_else(String::new, |cycle| cycle.to_string()),
            currency: document.currency.to_string(),
            meters: document.meters.len() as u32,
            skus: document.skus.len() as u32,
            prices: document.prices.len() as u32,
            shards,
        })
    }
}

fn hash_in(bytes: &Bytes) -> Result<Hash, Trouble> {
    let invalid = |_| Trouble::invalid(format!("a hash has 32 bytes, this one has {}", bytes.len()));
    bytes.as_ref().try_into().map_err(invalid)
}

#[async_trait]
impl Catalogue for Door {
    async fn list(&self, request: Request<ListCataloguesRequest>) -> Result<Response<ListCataloguesReply>, Status> {
        let name = request.into_inner().name;
        reach::latest_map(&self.0).await?;
        let state = self.0.meta.state();
        let mut versions = Vec::new();
        for row in state.catalogues().iter().filter(|row| name.is_empty() || row.name == name) {
            versions.push(self.version_out(row).await?);
        }
        Ok(Response::new(ListCataloguesReply { versions }))
    }

    async fn show(&self, request: Request<ShowCatalogueRequest>) -> Result<Response<ShowCatalogueReply>, Status> {
        let request = request.into_inner();
        reach::latest_map(&self.0).await?;
        let state = self.0.meta.state();
        let wanted =
            |row: &&CatalogueRow| row.name == request.name && (request.version == 0 || row.version == request.version);
        let row = state.catalogues().iter().rfind(wanted).ok_or_else(|| {
            let version = if request.version == 0 { String::new() } else { format!(" version {}", request.version) };
            let detail = format!("there is no catalogue '{}'{version}; list the catalogues", request.name);
            Trouble::Refused(Refusal::new(Reason::UnknownCatalogue, detail))
        })?;
        let json = reach::blob(&self.0, &hash_in(&row.hash)?).await.map_err(Trouble::unavailable)?;
        Ok(Response::new(ShowCatalogueReply { version: Some(self.version_out(row).await?), json }))
    }

    /// Only what is on this node's disk: peers that lack a blob ask each other, and must not go in circles.
    async fn blob(&self, request: Request<BlobRequest>) -> Result<Response<BlobReply>, Status> {
        let hash = hash_in(&request.into_inner().hash)?;
        let blobs = self.0.blobs.clone();
        let read = workers::run(self.0.workers.as_ref(), move || blobs.get(&hash)).await;
        let read = read.map_err(|lost| Trouble::unavailable(lost.to_string()))?;
        let json = read.map_err(|error| Trouble::Broken { message: error.to_string() })?;
        // A node that was away while it was staged gets it with its shards; until then another one has it.
        let json = json.ok_or_else(|| {
            let name = blake3::Hash::from_bytes(hash).to_hex();
            Trouble::unavailable(format!("blob {name} is not on this node; try another"))
        })?;
        Ok(Response::new(BlobReply { json }))
    }
}
