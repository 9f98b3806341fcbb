//! Over gRPC: calls with one answer each, and streams.

use intentd::proto::nlu_client::NluClient;
use intentd::proto::{ParseRequest, ParseResponse};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{StreamExt as _, StreamMap};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

use crate::Result;
use crate::meter::{Answer, End, Way};

/// The daemon reads 16 requests of a stream before it answers the first, so 64 in flight need four.
const STREAMS: usize = 4;

/// One connection for all calls of a server.
pub(crate) async fn connect(port: u16) -> Result<NluClient<Channel>> {
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}"))?.tcp_nodelay(true);
    Ok(NluClient::new(endpoint.connect().await?))
}

/// An utterance as it is sent. The id has one width, so that all messages have one size.
pub(crate) fn request(number: u64, text: &str) -> ParseRequest {
    ParseRequest { id: format!("{number:08}"), text: text.to_owned(), ..ParseRequest::default() }
}

/// A call for each utterance.
pub(crate) struct Unary {
    client: NluClient<Channel>,
    calls: JoinSet<Answer>,
}

impl Unary {
    pub(crate) fn new(client: NluClient<Channel>) -> Self {
        Self { client, calls: JoinSet::new() }
    }
}

impl Way for Unary {
    async fn send(&mut self, number: u64, text: &str) -> Result<()> {
        let (mut client, request) = (self.client.clone(), request(number, text));
        self.calls.spawn(async move {
            let end = match client.parse(request).await {
                Ok(answer) => End::Answered(answer.into_inner().timing),
                Err(status) => failed(status.code()),
            };
            Answer { number, end }
        });
        Ok(())
    }

    async fn receive(&mut self) -> Result<Answer> {
        match self.calls.join_next().await {
            Some(answer) => Ok(answer?),
            None => Err("an answer is owed, but no call is under way".into()),
        }
    }
}

/// Some streams; each utterance goes to the one with the fewest under way.
pub(crate) struct Streams {
    requests: Vec<Requests>,
    answers: StreamMap<usize, Streaming<ParseResponse>>,
}

struct Requests {
    sender: mpsc::Sender<ParseRequest>,
    under_way: usize,
}

impl Streams {
    pub(crate) async fn open(mut client: NluClient<Channel>) -> Result<Self> {
        let mut streams = Self { requests: Vec::new(), answers: StreamMap::new() };
        for index in 0..STREAMS {
            let (sender, requests) = mpsc::channel(64);
            let answers = client.parse_stream(ReceiverStream::new(requests)).await?.into_inner();
            streams.requests.push(Requests { sender, under_way: 0 });
            streams.answers.insert(index, answers);
        }
        Ok(streams)
    }
}

impl Way for Streams {
    async fn send(&mut self, number: u64, text: &str) -> Result<()> {
        let emptiest = self.requests.iter_mut().min_by_key(|requests| requests.under_way);
        let emptiest = emptiest.ok_or("no stream is open")?;
        emptiest.under_way += 1;
        Ok(emptiest.sender.send(request(number, text)).await?)
    }

    async fn receive(&mut self) -> Result<Answer> {
        let (index, answer) = self.answers.next().await.ok_or("every stream has ended")?;
        let ParseResponse { id, timing, error, .. } = answer.map_err(|status: Status| status.to_string())?;
        self.requests[index].under_way -= 1;
        let end = match error {
            None => End::Answered(timing),
            Some(error) => failed(Code::from(error.code)),
        };
        Ok(Answer { number: id.parse()?, end })
    }
}

fn failed(code: Code) -> End {
    if code == Code::ResourceExhausted { End::Refused } else { End::Failed }
}
