//! A node without a cluster: it waits at its own door until it is told to found one (`cluster init`), and asks the nodes
//! that it was told of until one gives it an id. What comes of either is its identity, kept before anything else is.

use std::time::Duration;

use bytes::Bytes;
use futures::channel::mpsc as connections;
use futures::stream::BoxStream;
use futures::{SinkExt as _, StreamExt as _};
use reckoner_client::client::{Client, ClientConfig};
use reckoner_client::proto::cluster_server::{Cluster, ClusterServer};
use reckoner_client::proto::{
    ApplyReply, ApplyRequest, BackupReply, BackupRequest, BalanceLeadersRequest, CheckShardsReply, CheckShardsRequest,
    ContentsPart, ContentsRequest, ExecuteReply, ExecuteRequest, ImagePart, ImageRequest, InitReply, InitRequest,
    JobReply, JobRequest, LayoutReply, PlanReply, RoutesReply, RoutesRequest, SetLayoutRequest, SetNodeRequest,
    StageBlobReply, StageBlobRequest, StatusReply, StatusRequest,
};
use reckoner_client::routes::Connector;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Request, Response, Status, async_trait};

use crate::api::status::Trouble;
use crate::config::{Config, Member, SHARDS, SHARDS_MAX};
use crate::datadir::{DataDir, DataDirError, Identity};
use crate::internal::JoinRequest;
use crate::internal::internal_client::InternalClient;
use crate::net::Listener;

/// Between two rounds of asking.
const ASK_INTERVAL: Duration = Duration::from_millis(300);

/// How long a node may take to give an id: an election of the meta group.
const ASK_TIMEOUT: Duration = Duration::from_secs(3);

/// How long open calls may go on once the node has its identity.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(300);

/// Answers that asking again does not change: the node was removed, its address is another's, there are too many.
const REFUSED: [tonic::Code; 3] = [tonic::Code::NotFound, tonic::Code::AlreadyExists, tonic::Code::ResourceExhausted];

/// Somebody who founds, and where the answer goes.
type Founding = (InitRequest, oneshot::Sender<Result<InitReply, Trouble>>);

/// Why a node got no identity.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error("--join: {0}")]
    Refused(String),
}

/// The identity that a new node gets, from an operator or from a cluster; kept in the data directory. `connector` is the
/// way to the nodes that are asked, TCP when absent.
///
/// # Errors
/// When the cluster refuses the node for good, or the directory cannot be written.
pub async fn identity(
    config: &Config,
    data: &DataDir,
    address: &str,
    listener: &mut Listener,
    connector: Option<Connector>,
) -> Result<Identity, JoinError> {
    let ticket = Bytes::copy_from_slice(&data.ticket()?);
    let seeds: Vec<String> = config.join.iter().filter(|seed| *seed != address).cloned().collect();
    tracing::info!(%address, ?seeds, "waiting for `cluster init` here, or for one of these nodes to answer");
    let (mut arrive, incoming) = connections::channel(16);
    let (found, mut founding) = mpsc::channel::<Founding>(1);
    let close = CancellationToken::new();
    let door = ClusterServer::new(Waiting { found, address: address.to_owned() });
    // Clients that were told of this node ask it for everything; they are to try another one.
    let not_yet = waiting(address);
    let everything_else = move || std::future::ready(not_yet.clone().into_http::<axum::body::Body>());
    let routes = Routes::from(Routes::new(door).into_axum_router().fallback(everything_else));
    let closed = close.clone().cancelled_owned();
    let server = tonic::transport::Server::builder().add_routes(routes).serve_with_incoming_shutdown(incoming, closed);
    let mut server = tokio::spawn(server);
    let asked = ask(&seeds, address, ticket, connector);
    tokio::pin!(asked);
    let identity = loop {
        tokio::select! {
            Some(accepted) = listener.incoming.next() => {
                // The server ends only after this loop.
                let _ = arrive.send(accepted).await;
            }
            Some((request, answer)) = founding.recv() => match founded(config, address, &request) {
                Err(trouble) => {
                    let _ = answer.send(Err(trouble));
                }
                Ok(identity) => {
                    data.write_identity(&identity)?;
                    let reply = InitReply { cluster: identity.cluster.clone(), node: identity.node_id, already: false };
                    // Whoever asked may be gone; the cluster is founded all the same.
                    let _ = answer.send(Ok(reply));
                    break identity;
                }
            },
            joined = &mut asked => {
                let identity = joined?;
                data.write_identity(&identity)?;
                break identity;
            }
        }
    };
    close.cancel();
    if timeout(DRAIN_TIMEOUT, &mut server).await.is_err() {
        server.abort();
    }
    Ok(identity)
}

fn founded(config: &Config, address: &str, request: &InitRequest) -> Result<Identity, Trouble> {
    let shards = match request.shards {
        0 => config.shards.unwrap_or(SHARDS),
        asked if asked <= SHARDS_MAX => asked,
        asked => return Err(Trouble::invalid(format!("{asked} shards are not between 1 and {SHARDS_MAX}"))),
    };
    let founder = Member { id: 1, address: address.to_owned() };
    Ok(Identity::new(rand::random(), 1, shards, vec![founder]))
}

/// Asks the seeds in turn until one gives an id.
async fn ask(
    seeds: &[String],
    address: &str,
    ticket: Bytes,
    connector: Option<Connector>,
) -> Result<Identity, JoinError> {
    if seeds.is_empty() {
        // Only an operator can help.
        return std::future::pending().await;
    }
    let config = ClientConfig { connector, ..ClientConfig::default() };
    let client = Client::lazy(seeds, config).map_err(|error| JoinError::Refused(error.to_string()))?;
    loop {
        for seed in seeds {
            let Ok(channel) = client.routes().channel(seed) else { continue };
            let request = JoinRequest { address: address.to_owned(), ticket: ticket.clone() };
            match timeout(ASK_TIMEOUT, InternalClient::new(channel).join(request)).await {
                Ok(Ok(reply)) => {
                    let reply = reply.into_inner();
                    let cluster: Result<[u8; 16], _> = reply.cluster.as_ref().try_into();
                    let cluster =
                        cluster.map_err(|_| JoinError::Refused(format!("{seed} does not name its cluster")))?;
                    return Ok(Identity::new(u128::from_be_bytes(cluster), reply.node, reply.shards, Vec::new()));
                }
                Ok(Err(status)) if REFUSED.contains(&status.code()) => {
                    return Err(JoinError::Refused(format!("{seed} refuses: {}", status.message())));
                }
                Ok(Err(status)) => tracing::debug!(seed, message = status.message(), "no id yet"),
                Err(_) => tracing::debug!(seed, "no answer yet"),
            }
        }
        sleep(ASK_INTERVAL).await;
    }
}

/// The door of a node without a cluster.
struct Waiting {
    found: mpsc::Sender<Founding>,
    address: String,
}

impl Waiting {
    fn not_yet<T>(&self) -> Result<Response<T>, Status> {
        Err(waiting(&self.address))
    }
}

fn waiting(address: &str) -> Status {
    let message = format!(
        "{address} waits for its cluster: run `reckoner cluster init --endpoint {address}` on one of the nodes, once"
    );
    Trouble::unavailable(message).into()
}

#[async_trait]
impl Cluster for Waiting {
    async fn init(&self, request: Request<InitRequest>) -> Result<Response<InitReply>, Status> {
        let (answer, answered) = oneshot::channel();
        if self.found.send((request.into_inner(), answer)).await.is_err() {
            return self.not_yet();
        }
        match answered.await {
            Ok(reply) => Ok(Response::new(reply?)),
            // It got its identity in this moment.
            Err(_) => self.not_yet(),
        }
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        self.not_yet()
    }

    async fn routes(&self, _: Request<RoutesRequest>) -> Result<Response<RoutesReply>, Status> {
        self.not_yet()
    }

    async fn set_node(&self, _: Request<SetNodeRequest>) -> Result<Response<PlanReply>, Status> {
        self.not_yet()
    }

    async fn balance_leaders(&self, _: Request<BalanceLeadersRequest>) -> Result<Response<PlanReply>, Status> {
        self.not_yet()
    }

    async fn set_layout(&self, _: Request<SetLayoutRequest>) -> Result<Response<LayoutReply>, Status> {
        self.not_yet()
    }

    async fn backup(&self, _: Request<BackupRequest>) -> Result<Response<BackupReply>, Status> {
        self.not_yet()
    }

    type ImageStream = BoxStream<'static, Result<ImagePart, Status>>;

    async fn image(&self, _: Request<ImageRequest>) -> Result<Response<Self::ImageStream>, Status> {
        self.not_yet()
    }

    type ContentsStream = BoxStream<'static, Result<ContentsPart, Status>>;

    async fn contents(&self, _: Request<ContentsRequest>) -> Result<Response<Self::ContentsStream>, Status> {
        self.not_yet()
    }

    async fn check_shards(&self, _: Request<CheckShardsRequest>) -> Result<Response<CheckShardsReply>, Status> {
        self.not_yet()
    }

    async fn apply(&self, _: Request<ApplyRequest>) -> Result<Response<ApplyReply>, Status> {
        self.not_yet()
    }

    async fn job(&self, _: Request<JobRequest>) -> Result<Response<JobReply>, Status> {
        self.not_yet()
    }

    async fn execute(&self, _: Request<ExecuteRequest>) -> Result<Response<ExecuteReply>, Status> {
        self.not_yet()
    }

    async fn stage_blob(&self, _: Request<StageBlobRequest>) -> Result<Response<StageBlobReply>, Status> {
        self.not_yet()
    }
}
