//! The other ends that understand nothing: one fixed answer of a typical size to whatever comes. What a request costs
//! here is what its transport costs.

use std::io::Write as _;
use std::path::Path;
use std::pin::Pin;

use bytes::Bytes;
use intentd::convert;
use intentd::proto::nlu_server::{Nlu, NluServer};
use intentd::proto::{ParseRequest, ParseResponse, WatchRequest};
use prost::Message as _;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, Publish, PublishProperties};
use rumqttc::v5::{AsyncClient, Event};
use tokio::net::TcpListener;
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::server::{Server, TcpIncoming};
use tonic::{Request, Response, Status, Streaming};

use crate::Result;
use crate::mqtt::{client, subscribed};

/// Topics of its own, since the daemon listens at the same broker.
pub(crate) const ROOT: &str = "echo";

/// Serves until it is killed. Its first line is the port.
pub(crate) fn grpc(answer: &Path) -> Result<()> {
    let answer = read(answer)?;
    // The daemon's kind of runtime.
    tokio::runtime::Runtime::new()?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        tell(listener.local_addr()?.port())?;
        let connections = TcpIncoming::from(listener).with_nodelay(Some(true));
        let server = Server::builder().add_service(NluServer::new(Fixed(answer)));
        Ok(server.serve_with_incoming(connections).await?)
    })
}

/// Serves until it is killed. Its first line comes when it is subscribed.
pub(crate) fn mqtt(answer: &Path, port: u16) -> Result<()> {
    let answer = Bytes::from(convert::to_json(&read(answer)?));
    tokio::runtime::Runtime::new()?.block_on(async {
        let (client, mut events) = client(port, "echo");
        client.subscribe(format!("{ROOT}/+/+/utterance"), QoS::AtLeastOnce).await?;
        subscribed(&mut events).await?;
        tell(port)?;
        loop {
            if let Event::Incoming(Packet::Publish(utterance)) = events.poll().await? {
                send_back(&client, utterance, &answer)?;
            }
        }
    })
}

/// With the properties that an intent of the daemon has.
fn send_back(client: &AsyncClient, utterance: Publish, answer: &Bytes) -> Result<()> {
    let topic = std::str::from_utf8(&utterance.topic)?.replace("/utterance", "/intent");
    let correlation = utterance.properties.and_then(|properties| properties.correlation_data);
    let properties = PublishProperties {
        payload_format_indicator: Some(1),
        content_type: Some("application/json".to_owned()),
        correlation_data: correlation,
        user_properties: vec![("id".to_owned(), "00000000".to_owned())],
        ..PublishProperties::default()
    };
    // Must not wait: whoever would make room is the caller.
    Ok(client.try_publish_with_properties(topic, QoS::AtLeastOnce, false, answer.clone(), properties)?)
}

fn read(answer: &Path) -> Result<ParseResponse> {
    Ok(ParseResponse::decode(std::fs::read(answer)?.as_slice())?)
}

fn tell(port: u16) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{port}")?;
    Ok(out.flush()?)
}

/// The service of the contract.
struct Fixed(ParseResponse);

impl Fixed {
    fn answer(&self, request: ParseRequest) -> ParseResponse {
        ParseResponse { id: request.id, ..self.0.clone() }
    }
}

#[tonic::async_trait]
impl Nlu for Fixed {
    async fn parse(
        &self,
        request: Request<ParseRequest>,
    ) -> std::result::Result<Response<ParseResponse>, Status> {
        Ok(Response::new(self.answer(request.into_inner())))
    }

    type ParseStreamStream = Pin<Box<dyn Stream<Item = std::result::Result<ParseResponse, Status>> + Send>>;

    async fn parse_stream(
        &self,
        requests: Request<Streaming<ParseRequest>>,
    ) -> std::result::Result<Response<Self::ParseStreamStream>, Status> {
        let fixed = Self(self.0.clone());
        let answers = requests.into_inner().map(move |request| request.map(|request| fixed.answer(request)));
        Ok(Response::new(Box::pin(answers)))
    }

    type WatchStream = tokio_stream::Empty<std::result::Result<ParseResponse, Status>>;

    async fn watch(
        &self,
        _request: Request<WatchRequest>,
    ) -> std::result::Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("an echo has nothing to watch"))
    }
}
