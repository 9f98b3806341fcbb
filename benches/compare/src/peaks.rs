//! What this CPU can do at most: multiply-accumulates of loops that touch registers only, and read bandwidth.
//!
//! Each step of a loop feeds its own earlier result back in, so that nothing can be folded or hoisted, and there are
//! enough independent chains to hide the latency. The int8 loop of a kernel consists of the instructions that its
//! arithmetic allows (`crates/kernels`): on AVX2 `vpmaddubsw`, `vpmaddwd` and `vpaddd` for each 32 products, with VNNI
//! `vpdpbusd`.

use std::hint::black_box;
use std::time::Duration;

use intentd_kernels::Kernel;
use serde_json::{Value, json};

use crate::scaling::rate;

/// Short and many, so that some go undisturbed by whatever else runs.
const TURN: Duration = Duration::from_millis(2);
const TURNS: usize = 100;
const STEPS: usize = 1_000;
/// Independent sums: more than latency times throughput of any of these instructions, and few enough for sixteen
/// registers.
const CHAINS: usize = 12;
const MEBIBYTES: [usize; 4] = [1, 8, 32, 128];

/// Prints all peaks, on the first CPU alone and on all at once.
pub(crate) fn report(cpus: &[usize]) -> Result<(), String> {
    let bandwidth = MEBIBYTES.map(|size| (size.to_string(), json!(read_bandwidth(&cpus[..1], size))));
    let peaks = json!({
        "one_thread": products(&cpus[..1]),
        "all_threads": products(cpus),
        "threads": cpus.len(),
        "read_bandwidth_gb_s": serde_json::Map::from_iter(bandwidth),
    });
    println!("{peaks}");
    Ok(())
}

/// Multiply-accumulates, in thousands of millions per second.
fn products(cpus: &[usize]) -> Value {
    let int8 = Kernel::all()
        .into_iter()
        .map(|kernel| (kernel.name().to_owned(), json!(best(cpus, || int8_loop(kernel)))));
    json!({
        "f32_fma": best(cpus, || f32_loop(true)),
        "f32_multiply_add": best(cpus, || f32_loop(false)),
        "int8": serde_json::Map::from_iter(int8),
    })
}

/// The best of some turns: a peak is what was reached undisturbed.
fn best<W: FnMut() -> f64>(cpus: &[usize], start: impl Fn() -> W + Sync) -> f64 {
    (0..TURNS).map(|_| rate(cpus, TURN, &start) / 1e9).fold(0.0, f64::max)
}

/// Thousands of millions of bytes per second that one thread can add up.
fn read_bandwidth(cpus: &[usize], mebibytes: usize) -> f64 {
    let values = vec![1_u64; (mebibytes << 20) / size_of::<u64>()];
    best(cpus, || {
        || {
            black_box(cpu::sum(black_box(&values)));
            size_of_val(values.as_slice()) as f64
        }
    })
}

/// A loop over the instructions of a kernel's integer products; it says how many multiply-accumulates it did.
pub(crate) fn int8_loop(kernel: Kernel) -> impl FnMut() -> f64 {
    let (steps, products) = cpu::int8(kernel);
    move || {
        steps(STEPS);
        (STEPS * CHAINS * products) as f64
    }
}

fn f32_loop(fused: bool) -> impl FnMut() -> f64 {
    let (steps, products) = cpu::f32(fused);
    move || {
        steps(STEPS);
        (STEPS * CHAINS * products) as f64
    }
}

/// Some steps of every chain, and the products of one step.
type Loop = (fn(usize), usize);

/// For CPUs without loops of their own, and for the portable kernel: what the compiler makes of it.
mod portable {
    use super::{CHAINS, Loop, black_box};

    pub(super) const INT8: Loop = (int8, 4);

    fn int8(steps: usize) {
        let mut sums = [[1_i32; 4]; CHAINS];
        let weight = black_box(3);
        for _ in 0..steps {
            for lane in sums.as_flattened_mut() {
                *lane = lane.wrapping_mul(weight).wrapping_add(1);
            }
        }
        black_box(sums);
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub(super) fn f32(steps: usize, fused: bool) {
        let mut sums = [[1.0_f32; 4]; CHAINS];
        let weight = black_box(0.5);
        for _ in 0..steps {
            for lane in sums.as_flattened_mut() {
                *lane = if fused { lane.mul_add(weight, 1.0) } else { *lane * weight + 1.0 };
            }
        }
        black_box(sums);
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod cpu {
    use super::{Kernel, Loop, portable};

    pub(super) fn int8(_kernel: Kernel) -> Loop {
        portable::INT8
    }

    pub(super) fn f32(fused: bool) -> Loop {
        if fused { (|steps| portable::f32(steps, true), 4) } else { (|steps| portable::f32(steps, false), 4) }
    }

    pub(super) fn sum(values: &[u64]) -> u64 {
        values.iter().fold(0, |sum, value| sum ^ value)
    }
}

#[cfg(target_arch = "x86_64")]
mod cpu {
    use std::arch::x86_64::{
        _mm256_add_epi32, _mm256_add_ps, _mm256_dpbusd_avx_epi32, _mm256_fmadd_ps, _mm256_madd_epi16,
        _mm256_maddubs_epi16, _mm256_mul_ps, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32,
        _mm256_set1_ps, _mm512_dpbusd_epi32, _mm512_set1_epi8, _mm512_set1_epi32,
    };

    use super::{CHAINS, Kernel, Loop, black_box, portable};

    /// Enters a function that is compiled for features that a kernel has proven.
    macro_rules! entered {
        ($steps:ident) => {
            // SAFETY: each is entered only for a kernel that exists only where the CPU has the features, or after
            // looking for them.
            |steps| unsafe { $steps(steps) }
        };
    }

    pub(super) fn int8(kernel: Kernel) -> Loop {
        match kernel.name() {
            "avx2" => (entered!(avx2), 32),
            "avx-vnni" => (entered!(avx_vnni), 32),
            "avx512-vnni" => (entered!(avx512_vnni), 64),
            _ => portable::INT8,
        }
    }

    pub(super) fn f32(fused: bool) -> Loop {
        assert!(
            is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            "the peaks need AVX2 and FMA"
        );
        if fused { (entered!(fma), 8) } else { (entered!(multiply_add), 8) }
    }

    pub(super) fn sum(values: &[u64]) -> u64 {
        assert!(is_x86_feature_detected!("avx2"), "the peaks need AVX2");
        // SAFETY: just looked for.
        unsafe { sum_avx2(values) }
    }

    #[target_feature(enable = "avx2")]
    fn avx2(steps: usize) {
        let (weights, ones) = (_mm256_set1_epi8(black_box(3)), _mm256_set1_epi16(black_box(1)));
        let mut sums = [_mm256_set1_epi32(black_box(1)); CHAINS];
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(_mm256_maddubs_epi16(*sum, weights), ones));
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx2,avxvnni")]
    fn avx_vnni(steps: usize) {
        let weights = _mm256_set1_epi8(black_box(3));
        let mut sums = [_mm256_set1_epi32(black_box(1)); CHAINS];
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = _mm256_dpbusd_avx_epi32(*sum, *sum, weights);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx512f,avx512vnni")]
    fn avx512_vnni(steps: usize) {
        let weights = _mm512_set1_epi8(black_box(3));
        let mut sums = [_mm512_set1_epi32(black_box(1)); CHAINS];
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, *sum, weights);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx2,fma")]
    fn fma(steps: usize) {
        let (weights, bias) = (_mm256_set1_ps(black_box(0.5)), _mm256_set1_ps(black_box(1.0)));
        let mut sums = [_mm256_set1_ps(black_box(1.0)); CHAINS];
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, weights, bias);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx2")]
    fn multiply_add(steps: usize) {
        let (weights, bias) = (_mm256_set1_ps(black_box(0.5)), _mm256_set1_ps(black_box(1.0)));
        let mut sums = [_mm256_set1_ps(black_box(1.0)); CHAINS];
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = _mm256_add_ps(_mm256_mul_ps(*sum, weights), bias);
            }
        }
        black_box(sums);
    }

    /// Four independent sums, so that loads are what it waits for.
    #[target_feature(enable = "avx2")]
    fn sum_avx2(values: &[u64]) -> u64 {
        let mut sums = [0_u64; 32];
        for chunk in values.as_chunks::<32>().0 {
            for (sum, value) in sums.iter_mut().zip(chunk) {
                *sum ^= value;
            }
        }
        sums.into_iter().fold(0, |sum, value| sum ^ value)
    }
}
