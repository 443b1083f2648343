//! Whole runs at one decision per second, as the controller makes them, with load that trembles: no flapping, and no
//! jump when samples are missing for a while.

mod support;

use std::collections::VecDeque;

use autoscale::hpa::{Inputs, PodUsage, Reading, State, decide};
use jiff::SignedDuration;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerStatus;
use serde_json::{Value, json};

use support::{inputs, now, spec};

/// Samples that one rate is taken over: metrics' window of five seconds at one sample a second.
const WINDOW: usize = 5;

/// Numbers that look random and are the same in every run (splitmix64).
struct Noise(u64);

impl Noise {
    /// From -1 to 1.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}

/// A target whose pods share a load evenly, each sample off by up to `tremble` of itself.
struct Run {
    replicas: usize,
    status: HorizontalPodAutoscalerStatus,
    state: State,
    second: i64,
    noise: Noise,
    tremble: f64,
    window: usize,
    samples: Vec<VecDeque<f64>>,
    warm: usize,
    behavior: Value,
    /// Every size it had.
    sizes: Vec<usize>,
}

/// What the metrics API answers.
#[derive(Clone, Copy, PartialEq)]
enum Answer {
    All,
    Nothing,
    Error,
    AllButOne,
}

impl Run {
    fn new(replicas: usize, seed: u64, tremble: f64, behavior: Value) -> Self {
        Self {
            replicas,
            status: HorizontalPodAutoscalerStatus::default(),
            state: State::default(),
            second: 0,
            noise: Noise(seed),
            tremble,
            window: WINDOW,
            // The first ones have been running for long.
            samples: vec![VecDeque::new(); replicas],
            warm: replicas,
            behavior,
            sizes: vec![replicas],
        }
    }

    /// Decides once a second with this load in thousandths of a core.
    fn go(&mut self, seconds: usize, load: f64, answer: Answer) {
        for _ in 0..seconds {
            let inputs = self.inputs(load, answer);
            let decision = decide(&inputs);
            self.second += 1;
            self.status = decision.status.clone();
            self.state = decision.state.clone();
            if let Some(rescale) = &decision.rescale {
                self.replicas = usize::try_from(rescale.to).expect("a size");
                self.samples.resize(self.replicas, VecDeque::new());
                self.warm = self.warm.min(self.replicas);
                self.sizes.push(self.replicas);
            }
        }
    }

    fn inputs(&mut self, load: f64, answer: Answer) -> Inputs {
        let share = load / self.replicas as f64;
        let usage: Vec<Option<i64>> = (0..self.replicas)
            .map(|pod| {
                let sample = share * (1.0 + self.tremble * self.noise.next());
                let recent = &mut self.samples[pod];
                recent.push_back(sample);
                if recent.len() > self.window {
                    recent.pop_front();
                }
                let mean = recent.iter().sum::<f64>() / recent.len() as f64;
                // A pod counts once it has been ready for a whole window.
                let counts = pod < self.warm || recent.len() == self.window;
                let told = answer != Answer::AllButOne || pod > 0;
                (counts && told).then_some(mean.round() as i64)
            })
            .collect();
        let mut inputs = inputs(spec(1, 20, self.behavior.clone()), &usage);
        let passed = SignedDuration::from_secs(self.second);
        inputs.now = now() + passed;
        if let Reading::Values(values) = &mut inputs.pod_usage {
            values
                .iter_mut()
                .for_each(|usage: &mut PodUsage| usage.timestamp += passed);
        }
        match answer {
            Answer::All | Answer::AllButOne => {}
            Answer::Nothing => inputs.pod_usage = Reading::Values(Vec::new()),
            Answer::Error => inputs.pod_usage = Reading::Failed("no answer".to_owned()),
        }
        inputs.hpa.status = self.status.clone();
        inputs.state = self.state.clone();
        inputs
    }

    /// How often growth followed shrinking or the other way round.
    fn turns(&self) -> usize {
        let steps: Vec<bool> = self
            .sizes
            .windows(2)
            .map(|pair| pair[1] > pair[0])
            .collect();
        steps.windows(2).filter(|pair| pair[0] != pair[1]).count()
    }
}

/// Shrinks after five seconds, as the quick variant of the example does.
fn quick() -> Value {
    json!({"scaleDown": {"stabilizationWindowSeconds": 5, "policies": [{"type": "Percent", "value": 100, "periodSeconds": 5}]}})
}

#[test]
fn load_that_trembles_does_not_flap() {
    for behavior in [Value::Null, quick()] {
        for seed in 0..10 {
            // From just enough for three pods to nearly ten, in steps that meet every place between two sizes.
            let load = 210.0 + 54.0 * seed as f64;
            let mut run = Run::new(3, seed, 0.15, behavior.clone());
            run.go(60, load, Answer::All);
            let settled = run.sizes.len();
            // Rounding up may take one more than needed at first, which then goes again.
            assert!(run.turns() <= 1, "load {load}m: {:?}", run.sizes);
            run.go(240, load, Answer::All);
            assert_eq!(run.sizes.len(), settled, "load {load}m: {:?}", run.sizes);
            let each = load / run.replicas as f64;
            assert!(
                (60.0..=90.0).contains(&each),
                "load {load}m: {:?}",
                run.sizes
            );
        }
    }
}

/// The test above can fail: without the window, and with far more noise, the same loop does flap.
#[test]
fn raw_samples_with_heavy_noise_would_flap() {
    let mut run = Run::new(3, 1, 0.9, quick());
    run.window = 1;
    run.go(600, 400.0, Answer::All);
    assert!(run.turns() > 10, "{:?}", run.sizes);
}

#[test]
fn missing_samples_keep_the_size() {
    for gap in [Answer::Nothing, Answer::Error] {
        let mut run = Run::new(3, 7, 0.05, quick());
        run.go(60, 400.0, Answer::All);
        let settled = run.sizes.clone();
        assert_eq!(settled.last(), Some(&5));
        run.go(120, 900.0, gap);
        run.go(WINDOW, 400.0, gap);
        run.go(60, 400.0, Answer::All);
        assert_eq!(run.sizes, settled, "nothing was seen, nothing was done");
        run.go(60, 800.0, Answer::All);
        assert_eq!(
            run.sizes.last(),
            Some(&10),
            "seen again, it is acted upon: {:?}",
            run.sizes
        );
    }
}

/// One pod whose samples are missing counts as idle when growing and as fully busy when shrinking, so that for a
/// while without its samples nothing swings.
#[test]
fn one_pod_without_samples_does_not_swing_the_size() {
    for load in [330.0, 400.0, 430.0] {
        let mut run = Run::new(5, 3, 0.05, quick());
        run.go(60, load, Answer::All);
        let settled = run.sizes.clone();
        run.go(60, load, Answer::AllButOne);
        run.go(60, load, Answer::All);
        assert_eq!(run.sizes, settled, "load {load}m");
    }
}
