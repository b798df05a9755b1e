//! Gradients over the ranks of an MPI program, clipped by their global norm: the same bits for any number of ranks.
//!
//! `cargo build --release && mpirun -n 4 target/release/wgclip-mpi-example`

use mpi::Threading;
use mpi::collective::SystemOperation;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives};
use wgclip::norm::NormState;
use wgclip::{NormKind, Result, cpu};

/// How many elements there are, of all ranks together.
const LEN: usize = 4_000_003;

/// Element `i` of all, whichever rank has it: large, tiny and ordinary ones in turn.
fn gradient(i: usize) -> f32 {
    let ordinary = (i as u32).wrapping_mul(2_654_435_761) as f32 / 2f32.powi(31) - 1.0;
    ordinary * [1e30, 1e-30, 1.0][i % 3]
}

/// The exact norm of the elements of all ranks, from those of this one.
fn norm_of_all(world: &SimpleCommunicator, mine: &[f32]) -> Result<NormState> {
    let mut state = NormState::new(NormKind::L2);
    state.add_slice(mine)?;
    let words = state.to_words();
    // Sums of integers have no order. Nothing is rounded before all ranks are in.
    let mut sum = vec![0i64; words.len()];
    world.all_reduce_into(&words[..], &mut sum[..], SystemOperation::sum());
    NormState::from_words(NormKind::L2, &sum)
}

fn main() -> Result<()> {
    // wgclip has threads of its own, which do not call MPI.
    let (universe, _) = mpi::initialize_with_threading(Threading::Funneled).expect("MPI starts once");
    let world = universe.world();
    let (rank, ranks) = (world.rank() as usize, world.size() as usize);

    // Later ranks have more.
    let start = |rank: usize| LEN * rank * rank / (ranks * ranks);
    let mut mine: Vec<f32> = (start(rank)..start(rank + 1)).map(gradient).collect();

    let all = norm_of_all(&world, &mine)?;
    let norm = all.norm::<f32>()?;
    // Every rank has the same norm, and so the same coefficient.
    let scaling = all.scaling::<f32>(1.0)?;
    cpu::scale_in_place(&mut mine, scaling.to_f64());
    let after = norm_of_all(&world, &mine)?.norm::<f32>()?;

    if rank == 0 {
        println!("norm {norm:e}, bits {:08x}", norm.to_bits());
        println!("coefficient {scaling:?}");
        println!("norm after clipping {after:e}, bits {:08x}", after.to_bits());
    }
    Ok(())
}
