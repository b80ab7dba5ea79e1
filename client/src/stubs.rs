//! The generated clients of the five services with their message limits, one a call: a channel is cheap to clone. Which node
//! is asked, and how often, is [`crate::client`]'s.

use tonic::Request;
use tonic::transport::Channel;

use crate::proto::accounts_client::AccountsClient;
use crate::proto::bills_client::BillsClient;
use crate::proto::catalogue_client::CatalogueClient;
use crate::proto::cluster_client::ClusterClient;
use crate::proto::usage_client::UsageClient;

/// Largest message in either direction.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// gRPC's header of a call's timeout.
const TIMEOUT_KEY: &str = "grpc-timeout";

/// The request without its timeout, for answers that go on for longer.
pub fn lasting<T>(mut request: Request<T>) -> Request<T> {
    request.metadata_mut().remove(TIMEOUT_KEY);
    request
}

macro_rules! stub {
    ($name:ident, $client:ident) => {
        pub fn $name(channel: Channel) -> $client<Channel> {
            $client::new(channel)
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX)
        }
    };
}
stub!(usage, UsageClient);
stub!(accounts_of, AccountsClient);
stub!(bills, BillsClient);
stub!(catalogue, CatalogueClient);
stub!(cluster, ClusterClient);
