//! What must hold, whatever the network, the clients and the peers do.

use std::fmt;

/// A property of the deployment.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Property {
    RelaysOnlyWhatIsPermitted,
    RelaysAllThatIsPermitted,
    ChannelsAreBound,
    PayloadsArriveUnaltered,
    DataReachesItsClientAlone,
    AnswersAreAuthentic,
    AnswersTellTheTruth,
    EveryPacketHasOneOutcome,
    GaugesTellTheTruth,
    EverythingReturns,
    GoodClientsAreServed,
    RelaysReachEachOther,
    SeedsReplay,
    AnswersArePredicted,
}

impl Property {
    /// Panics with the name of the property unless it holds.
    #[track_caller]
    pub(crate) fn holds(self, condition: bool, detail: impl FnOnce() -> String) {
        assert!(condition, "property \"{self}\" is broken: {}", detail());
    }
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RelaysOnlyWhatIsPermitted => {
                "nothing is relayed without a live allocation and permission"
            }
            Self::RelaysAllThatIsPermitted => {
                "what has a live allocation and permission is relayed"
            }
            Self::ChannelsAreBound => "ChannelData never travels on an unbound channel",
            Self::PayloadsArriveUnaltered => "payloads are never altered",
            Self::DataReachesItsClientAlone => "data never reaches another client",
            Self::AnswersAreAuthentic => "a success response is signed with the client's key",
            Self::AnswersTellTheTruth => "a response says what the server does",
            Self::EveryPacketHasOneOutcome => "received = relayed + answered + parked + dropped",
            Self::GaugesTellTheTruth => "gauges equal what the clients were granted",
            Self::EverythingReturns => "after the last lifetime all is back where it began",
            Self::GoodClientsAreServed => "a good client gets its allocation and its data",
            Self::RelaysReachEachOther => "two clients of the server reach each other's relays",
            Self::SeedsReplay => "the same seed replays to the byte, another differs",
            Self::AnswersArePredicted => "every answer is the one that the rules predict",
        })
    }
}
