//! What two threads gain over one. Both CPUs may be threads of one core: so what intentd gains is set beside what the
//! register-only loop gains in the same minute.

use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use intentd_engine::model::{Model, Operators, Sequence};
use intentd_kernels::Kernel;
use rustix::thread::{CpuSet, sched_setaffinity};
use serde_json::json;

use crate::peaks::int8_loop;

const TURN: Duration = Duration::from_millis(100);
const ROUNDS: usize = 15;

/// Prints the median gains.
pub(crate) fn report(model: &Path, tokens: u32, cpus: &[usize]) -> Result<(), String> {
    let kernel = Kernel::best();
    let bytes = std::fs::read(model).map_err(|e| e.to_string())?;
    let model = Model::load("encoder", &bytes, Operators::Plugged(kernel))?;
    let sequence: Vec<u32> = (0..tokens).map(|token| 1000 + 7 * token).collect();

    let passes = || {
        let mut running = model.start().expect("a loaded graph starts");
        let sequence = &sequence;
        move || {
            std::hint::black_box(running.encode(&[Sequence::plain(sequence)]).expect("a loaded graph runs"));
            1.0
        }
    };
    let (mut engine, mut register_loop) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        engine.push(gain(cpus, passes));
        register_loop.push(gain(cpus, || int8_loop(kernel)));
    }
    println!("{}", json!({ "engine": median(engine), "register_loop": median(register_loop) }));
    Ok(())
}

/// Throughput on all CPUs at once over that of the first alone.
fn gain<W: FnMut() -> f64>(cpus: &[usize], start: impl Fn() -> W + Sync) -> f64 {
    let alone = rate(&cpus[..1], TURN, &start);
    rate(cpus, TURN, &start) / alone
}

/// Units of work per second, on one thread for each CPU. `start` makes a thread's work, which says after each call how
/// many units it did.
pub(crate) fn rate<W: FnMut() -> f64>(
    cpus: &[usize],
    turn: Duration,
    start: &(impl Fn() -> W + Sync),
) -> f64 {
    let barrier = Barrier::new(cpus.len());
    let run = |cpu| {
        pin(cpu);
        let mut work = start();
        work();
        barrier.wait();
        let (started, mut units) = (Instant::now(), 0.0);
        while started.elapsed() < turn {
            units += work();
        }
        units / started.elapsed().as_secs_f64()
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = cpus.iter().map(|&cpu| scope.spawn(move || run(cpu))).collect();
        threads.into_iter().map(|thread| thread.join().expect("the loops do not panic")).sum()
    })
}

fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).expect("the CPU was named as one that this process may use");
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
