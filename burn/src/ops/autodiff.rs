//! The backward passes, as recorded by Burn's autodiff.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients as Recorded;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, AutodiffBackend};
use burn::tensor::FloatDType;
use wgclip::{BackwardRule, NormKind, NormLimit};

use super::{Bound, Broadcast, Call, ClipOps, Limited, Masked, Optional, Outputs};

/// The state saved for a backward pass.
#[derive(Debug, Clone)]
struct State<B: ClipOps> {
    /// x, or the result if the gradients are computed from that. Present if needed.
    kept: Option<FloatTensor<B>>,
    broadcast: Broadcast<B>,
    call: Call,
}

/// An operation of the list.
#[derive(Debug)]
struct Recording;

/// The parents are x and the broadcast inputs that are tensors.
impl<B: ClipOps, const N: usize> Backward<B, N> for Recording {
    type State = State<B>;

    fn backward(self, ops: Ops<State<B>, N>, grads: &mut Recorded, _: &mut Checkpointer) {
        let g = grads.consume::<B>(&ops.node);
        let State { kept, broadcast, call } = ops.state;
        let mut parents = ops.parents.into_iter();
        let of_x = parents.next().flatten();
        let inputs = broadcast.each_ref();
        let of_inputs = inputs.map(|input| input.tensor().and_then(|_| parents.next().flatten()));
        let Some(x) = kept else {
            // The gradient is the upstream one.
            if let Some(node) = of_x {
                grads.register::<B>(node.id, g);
            }
            return;
        };
        let backward = call.backward(of_x.is_some(), of_inputs.each_ref().map(Option::is_some));
        let Some(backward) = backward else { panic!("wgclip: {} has no gradients", call.op) };
        let of_outputs: Vec<_> = backward.outputs().collect();
        let mut gradients = B::run(x, Optional::Some(g), broadcast, backward).into_array();
        for (index, of) in of_outputs {
            let node = of.map_or(&of_x, |of| &of_inputs[of]);
            if let (Some(node), Some(gradient)) = (node, gradients[index].take()) {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

#[derive(Debug)]
struct ByMask;

impl<B: ClipOps> Backward<B, 1> for ByMask {
    type State = IntTensor<B>;

    fn backward(self, ops: Ops<IntTensor<B>, 1>, grads: &mut Recorded, _: &mut Checkpointer) {
        let g = grads.consume::<B>(&ops.node);
        if let [Some(node)] = ops.parents {
            grads.register::<B>(node.id, B::mask_backward(g, ops.state));
        }
    }
}

#[derive(Debug)]
struct ByNorm;

impl<B: ClipOps> Backward<B, 1> for ByNorm {
    type State = (FloatTensor<B>, NormLimit);

    fn backward(self, ops: Ops<(FloatTensor<B>, NormLimit), 1>, grads: &mut Recorded, _: &mut Checkpointer) {
        let (g, (x, limit)) = (grads.consume::<B>(&ops.node), ops.state);
        if let [Some(node)] = ops.parents {
            grads.register::<B>(node.id, B::scale_backward(x, g, limit));
        }
    }
}

#[derive(Debug)]
struct Softmax;

impl<B: ClipOps> Backward<B, 1> for Softmax {
    /// The result, and the axes.
    type State = (FloatTensor<B>, Vec<usize>);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Recorded, _: &mut Checkpointer) {
        let (g, (y, axes)) = (grads.consume::<B>(&ops.node), ops.state);
        if let [Some(node)] = ops.parents {
            grads.register::<B>(node.id, B::softmax_backward(y, g, axes));
        }
    }
}

/// The bound on the inner backend, and its node in the graph.
fn inner<B: ClipOps, C: CheckpointStrategy>(bound: Bound<Autodiff<B, C>>) -> (Bound<B>, Option<NodeGuard>) {
    match bound {
        Bound::Absent => (Bound::Absent, None),
        Bound::Value(value) => (Bound::Value(value), None),
        Bound::Tensor(tensor) => {
            let (tensor, node) = tensor.into_parts();
            (Bound::Tensor(tensor), Some(node))
        }
    }
}

/// Runs an operation with `N` parents.
fn record<B: ClipOps, C: CheckpointStrategy, const N: usize>(
    nodes: Vec<NodeGuard>,
    x: FloatTensor<B>,
    broadcast: Broadcast<B>,
    call: Call,
) -> FloatTensor<Autodiff<B, C>> {
    let Ok(nodes) = <[NodeGuard; N]>::try_from(nodes) else { panic!("wgclip: an operation of {N} parents") };
    match Backward::<B, N>::prepare::<C>(Recording, nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => {
            let is_needed = N > 1 || call.needs_x();
            let kept = (is_needed && !call.needs_y()).then(|| x.clone());
            let y = B::recorded(x, broadcast.clone(), call.clone());
            let kept = if call.needs_y() { Some(y.clone()) } else { kept };
            prep.finish(State { kept, broadcast, call }, y)
        }
        OpsKind::UnTracked(prep) => prep.finish(B::recorded(x, broadcast, call)),
    }
}

impl<B: ClipOps, C: CheckpointStrategy> ClipOps for Autodiff<B, C> {
    fn recorded(x: FloatTensor<Self>, broadcast: Broadcast<Self>, call: Call) -> FloatTensor<Self> {
        let (x, of_x) = x.into_parts();
        let (inputs, of_inputs): (Vec<_>, Vec<_>) = broadcast.into_array().into_iter().map(inner).unzip();
        let (broadcast, nodes) = (Broadcast::new(inputs), std::iter::once(Some(of_x)).chain(of_inputs));
        let nodes: Vec<_> = nodes.flatten().collect();
        match nodes.len() {
            1 => record::<B, C, 1>(nodes, x, broadcast, call),
            2 => record::<B, C, 2>(nodes, x, broadcast, call),
            3 => record::<B, C, 3>(nodes, x, broadcast, call),
            4 => record::<B, C, 4>(nodes, x, broadcast, call),
            _ => record::<B, C, 5>(nodes, x, broadcast, call),
        }
    }

    fn run(x: FloatTensor<Self>, g: Optional<Self>, broadcast: Broadcast<Self>, call: Call) -> Outputs<Self> {
        let broadcast = Broadcast::new(broadcast.into_array().map(|input| inner(input).0));
        let g = g.into_option().map(FloatTensor::<Self>::into_primitive);
        let outputs = B::run(x.into_primitive(), g.into(), broadcast, call).into_array();
        Outputs::new(outputs.map(|output| output.map(<Self as AutodiffBackend>::from_inner)))
    }

    fn start_norm(x: FloatTensor<Self>, kind: NormKind) -> IntTensor<Self> {
        B::start_norm(x.into_primitive(), kind)
    }

    fn add_norm(sum: IntTensor<Self>, x: FloatTensor<Self>, kind: NormKind) -> IntTensor<Self> {
        B::add_norm(sum, x.into_primitive(), kind)
    }

    fn limit_norm(sum: IntTensor<Self>, limit: NormLimit, to: FloatDType) -> Limited<Self> {
        let Limited { norm, scaling } = B::limit_norm(sum, limit, to);
        Limited { norm: <Self as AutodiffBackend>::from_inner(norm), scaling }
    }

    /// Scales gradients, which are not recorded.
    fn scale(x: FloatTensor<Self>, scaling: IntTensor<Self>) -> FloatTensor<Self> {
        <Self as AutodiffBackend>::from_inner(B::scale(x.into_primitive(), scaling))
    }

    fn clip_with_mask(
        x: FloatTensor<Self>,
        lo: Bound<Self>,
        hi: Bound<Self>,
        rule: BackwardRule,
    ) -> Masked<Self> {
        let ((x, node), lo, hi) = (x.into_parts(), inner(lo).0, inner(hi).0);
        let Masked { y, mask } = B::clip_with_mask(x, lo, hi, rule);
        let y = match Backward::<B, 1>::prepare::<C>(ByMask, [node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(mask.clone(), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        };
        Masked { y, mask }
    }

    fn mask_backward(g: FloatTensor<Self>, mask: IntTensor<Self>) -> FloatTensor<Self> {
        <Self as AutodiffBackend>::from_inner(B::mask_backward(g.into_primitive(), mask))
    }

    fn scale_backward(x: FloatTensor<Self>, g: FloatTensor<Self>, limit: NormLimit) -> FloatTensor<Self> {
        <Self as AutodiffBackend>::from_inner(B::scale_backward(
            x.into_primitive(),
            g.into_primitive(),
            limit,
        ))
    }

    fn clip_by_norm(x: FloatTensor<Self>, limit: NormLimit) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        match Backward::<B, 1>::prepare::<C>(ByNorm, [node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let y = B::clip_by_norm(x.clone(), limit);
                prep.finish((x, limit), y)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::clip_by_norm(x, limit)),
        }
    }

    fn softmax_backward(y: FloatTensor<Self>, g: FloatTensor<Self>, axes: Vec<usize>) -> FloatTensor<Self> {
        let gx = B::softmax_backward(y.into_primitive(), g.into_primitive(), axes);
        <Self as AutodiffBackend>::from_inner(gx)
    }

    fn softmax_along(x: FloatTensor<Self>, axes: Vec<usize>) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        match Backward::<B, 1>::prepare::<C>(Softmax, [node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let y = B::softmax_along(x, axes.clone());
                prep.finish((y.clone(), axes), y)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::softmax_along(x, axes)),
        }
    }
}
