//! Validators that do not do as they should: the engine's own liars, and twins (Bano et al., "Twins: BFT systems made
//! robust", 2020): two honest validators under one key, each of whom talks with a part of the others.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use commonware_consensus::simplex::mocks::{conflicter, impersonator, nuller, nullify_only, outdated, reconfigurer};
use commonware_consensus::types::{Epoch, ViewDelta};
use commonware_cryptography::Sha256;
use commonware_p2p::simulated::{
    Control, Manager, Oracle, Receiver, SplitForwarder, SplitOrigin, SplitSender, SplitTarget,
};
use commonware_p2p::{Message, Recipients};
use commonware_runtime::deterministic::Context;
use commonware_runtime::{Handle, Supervisor as _};

use super::super::committee::{Committee, Member, PublicKey};
use super::super::lines::{Channels, Lines, Opened};
use super::super::parts::mux;
use super::{Simulated, World};

/// A way to be evil. They vote on what they hear and propose nothing.
#[derive(Clone, Copy, Debug)]
pub(super) enum Evil {
    /// Votes for whatever it hears of, and for something else, too.
    Conflicter,
    /// Votes to skip a view and to keep its block.
    Nuller,
    /// Votes to skip every view.
    NullifyOnly,
    /// Votes for what was long ago.
    Outdated,
    /// Signs with another one's name.
    Impersonator,
    /// Votes in epochs that are not.
    Reconfigurer,
}

impl Evil {
    pub(super) const ALL: [Evil; 6] =
        [Evil::Conflicter, Evil::Nuller, Evil::NullifyOnly, Evil::Outdated, Evil::Impersonator, Evil::Reconfigurer];

    /// Lets it loose in the first epoch, in the place of one validator.
    pub(super) async fn start(self, context: &Context, committee: &Committee, lines: &Simulated) -> Handle<()> {
        let epoch = Epoch::zero();
        let [votes, ..] = lines.channels().await;
        let votes = mux(context, "votes", votes, epoch).await;
        let scheme = committee.scheme(epoch);
        let context = context.child("evil");
        // Its digests are of another kind than ours and look the same on the wire: 32 bytes.
        match self {
            Evil::Conflicter => {
                conflicter::Conflicter::<_, _, Sha256>::new(context, conflicter::Config { scheme }).start(votes)
            }
            Evil::Nuller => nuller::Nuller::<_, _, Sha256>::new(context, nuller::Config { scheme }).start(votes),
            Evil::NullifyOnly => {
                nullify_only::NullifyOnly::<_, _, Sha256>::new(context, nullify_only::Config { scheme }).start(votes)
            }
            Evil::Outdated => {
                let config = outdated::Config { scheme, view_delta: ViewDelta::new(10) };
                outdated::Outdated::<_, _, Sha256>::new(context, config).start(votes)
            }
            Evil::Impersonator => {
                impersonator::Impersonator::<_, _, Sha256>::new(context, impersonator::Config { scheme }).start(votes)
            }
            Evil::Reconfigurer => {
                reconfigurer::Reconfigurer::<_, _, Sha256>::new(context, reconfigurer::Config { scheme }).start(votes)
            }
        }
    }
}

/// The lines of one twin.
pub(super) struct Half<F: SplitForwarder<PublicKey>> {
    oracle: Oracle<PublicKey, Context>,
    me: PublicKey,
    /// Handed out once.
    channels: Mutex<Option<Split<F>>>,
}

type Split<F> = Channels<SplitSender<PublicKey, Context, F>, Receiver<PublicKey>>;

impl<F: SplitForwarder<PublicKey>> Lines<Context> for Half<F> {
    type Peers = Manager<PublicKey, Context>;
    type Blocker = Control<PublicKey, Context>;
    type Sender = SplitSender<PublicKey, Context, F>;
    type Receiver = Receiver<PublicKey>;

    async fn open(&self, _: Context, _: Epoch, _: &[Member]) -> Opened<Context, Self> {
        let channels = self.channels.lock().expect("nobody panics with it").take();
        let channels = channels.expect("twins live in one epoch");
        (self.oracle.manager(), self.oracle.control(self.me.clone()), channels)
    }
}

impl World {
    /// The lines of twins in the place of one validator: whom the first of them, and whom the second, talks with.
    pub(super) async fn twins(
        &self,
        node: usize,
        friends: [BTreeSet<usize>; 2],
    ) -> [Half<impl SplitForwarder<PublicKey> + use<>>; 2] {
        let friends = friends.map(|friends| friends.into_iter().map(|n| self.public(n)).collect::<BTreeSet<_>>());
        let friends = Arc::new(friends);
        let forward = {
            let friends = friends.clone();
            move |origin: SplitOrigin, to: &Recipients<PublicKey>, _: &_| {
                let friends = &friends[usize::from(origin == SplitOrigin::Secondary)];
                let to: Vec<PublicKey> = match to {
                    Recipients::All => friends.iter().cloned().collect(),
                    Recipients::Some(some) => some.iter().filter(|one| friends.contains(one)).cloned().collect(),
                    Recipients::One(one) => friends.get(one).cloned().into_iter().collect(),
                };
                (!to.is_empty()).then_some(Recipients::Some(to))
            }
        };
        let route = move |message: &Message<PublicKey>| match friends.each_ref().map(|f| f.contains(&message.0)) {
            [true, true] => SplitTarget::Both,
            [true, false] => SplitTarget::Primary,
            [false, true] => SplitTarget::Secondary,
            [false, false] => SplitTarget::None,
        };
        let lines = self.lines(node);
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for (sender, receiver) in lines.channels().await {
            let (says, says_too) = sender.split_with(forward.clone());
            let (hears, hears_too) = receiver.split_with(self.context.child("split"), route.clone());
            first.push((says, hears));
            second.push((says_too, hears_too));
        }
        [first, second].map(|half| {
            let channels = half.try_into().unwrap_or_else(|_| unreachable!("as many as there are"));
            Half { oracle: lines.oracle.clone(), me: lines.me.clone(), channels: Mutex::new(Some(channels)) }
        })
    }
}
