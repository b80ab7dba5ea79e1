//! The doors together: services, health, reflection and plain pages on one listener, with limits on everything that a caller can
//! make grow.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use futures::StreamExt as _;
use parking_lot::Mutex;
use reckoner_client::client::MESSAGE_BYTES_MAX as REPLY_BYTES_MAX;
use reckoner_client::proto;
use reckoner_client::proto::accounts_server::AccountsServer;
use reckoner_client::proto::bills_server::BillsServer;
use reckoner_client::proto::catalogue_server::CatalogueServer;
use reckoner_client::proto::cluster_server::ClusterServer;
use reckoner_client::proto::usage_server::UsageServer;
use reckoner_client::routes::CLUSTER_KEY;
use reckoner_raft::service::PeerService;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::{accounts, bills, catalogue, cluster, http, internal, usage};
use crate::context::Context;
use crate::data::reach::MESSAGE_BYTES_MAX;
use crate::internal::internal_server::InternalServer;
use crate::meta::survival::Former;
use crate::net::{CONNECTION_WINDOW_BYTES, KEEPALIVE, Listener, STREAM_WINDOW_BYTES};

/// Calls at once on a connection; a client that wants more opens another.
const STREAMS_MAX: u32 = 1_024;

/// The longest that a call may take until it begins to answer. Closing a cycle waits for its folds.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// How long open calls may go on once the doors close.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(300);

/// How often the health service learns whether the node is ready.
const HEALTH_INTERVAL: Duration = Duration::from_millis(200);

/// The running doors.
pub struct Server {
    stopping: CancellationToken,
    close: CancellationToken,
    cut: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Server {
    /// New usage is refused from now on; everything else goes on.
    pub fn refuse_new_work(&self) {
        self.stopping.cancel();
    }

    /// Takes no more connections and calls, waits a moment for those under way, then ends them.
    pub async fn shut_down(&self) {
        self.close.cancel();
        let task = self.task.lock().take();
        if let Some(mut task) = task
            && tokio::time::timeout(DRAIN_TIMEOUT, &mut task).await.is_err()
        {
            self.cut.cancel();
            task.abort();
        }
    }

    /// Ends every connection at once.
    pub fn cut(&self) {
        self.cut.cancel();
        self.close.cancel();
        if let Some(task) = self.task.lock().take() {
            task.abort();
        }
    }
}

/// Opens the doors on `listener`.
pub fn serve(context: &Arc<Context>, listener: Listener) -> Server {
    let (close, cut) = (CancellationToken::new(), CancellationToken::new());
    let cut_each = cut.clone();
    let incoming = listener.incoming.map(move |accepted| accepted.map(|io| io.until(cut_each.clone())));
    let closed = close.clone().cancelled_owned();
    let (routes, health) = routes(context);
    let server = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_MAX)
        .timeout(REQUEST_TIMEOUT)
        .accept_http1(true)
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, closed);
    tokio::spawn(tell_health(context.clone(), health, close.clone()));
    let fate = context.fate.clone();
    let task = tokio::spawn(async move {
        if let Err(error) = server.await {
            fate.seal(&format!("the doors closed: {error}"));
        }
    });
    Server { stopping: context.stopping.clone(), close, cut, task: Mutex::new(Some(task)) }
}

/// Serving while the node has all it should have and is not stopping.
async fn tell_health(context: Arc<Context>, health: HealthReporter, close: CancellationToken) {
    while !close.is_cancelled() {
        let ready = !context.stopping.is_cancelled() && context.missing().is_none();
        let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        health.set_service_status("", status).await;
        // Either way it is time to look again, or over.
        let _ = tokio::time::timeout(HEALTH_INTERVAL, close.cancelled()).await;
    }
}

fn routes(context: &Arc<Context>) -> (Routes, HealthReporter) {
    let (reporter, health) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .build_v1()
        .expect("the descriptors were compiled with this program");
    macro_rules! limited {
        ($server:ident, $door:expr) => {
            $server::new($door).max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(REPLY_BYTES_MAX)
        };
    }
    let routes = Routes::new(health)
        .add_service(reflection)
        .add_service(PeerService::new(context.host.clone()).into_server())
        .add_service(limited!(InternalServer, internal::Door(context.clone())))
        .add_service(limited!(UsageServer, usage::Door(context.clone())))
        .add_service(limited!(AccountsServer, accounts::Door(context.clone())))
        .add_service(limited!(BillsServer, bills::Door(context.clone())))
        .add_service(limited!(CatalogueServer, catalogue::Door(context.clone())))
        .add_service(limited!(ClusterServer, cluster::Door(context.clone())));
    let services = routes.into_axum_router().layer(from_fn_with_state(context.clone(), of_this_cluster));
    (Routes::from(http::with_pages(services, context)), reporter)
}

/// Refuses calls that were meant for another cluster. One that went on alone after its majority was lost is still the same to
/// clients; one that was restored from a backup is not: it does not have what was acknowledged since.
async fn of_this_cluster(State(context): State<Arc<Context>>, request: Request, next: Next) -> Response {
    let meant = request.headers().get(CLUSTER_KEY).and_then(|value| value.to_str().ok());
    let Some(meant) = meant.and_then(|meant| u128::from_str_radix(meant, 16).ok()) else {
        return next.run(request).await;
    };
    if meant == context.cluster || context.meta.state().former(meant) == Some(Former::Recovered) {
        return next.run(request).await;
    }
    let message = format!(
        "this is cluster {:032x}, the caller began with {meant:032x}; connect anew and send again what that one did not keep",
        context.cluster
    );
    Status::failed_precondition(message).into_http()
}
