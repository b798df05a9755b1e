//! Optimizers that limit the gradients before a step.

use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::module::Module;
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::Tensor;
use wgclip::{NormLimit, Result};

use crate::norm::{checked, limit_norm};

/// An optimizer that limits the global norm of the gradients before each step.
#[derive(Clone)]
pub struct GlobalNormOptimizer {
    optimizer: ModuleOptimizer,
    limit: NormLimit,
    norm: Option<Tensor<1>>,
}

/// Limits for the optimizers of Burn.
pub trait LimitGradients {
    /// An optimizer that limits the global norm of all gradients before each step, like [`clip_by_global_norm`](crate::clip_by_global_norm):
    ///
    /// ```
    /// use burn::optim::SgdConfig;
    /// use wgclip_burn::LimitGradients;
    ///
    /// let mut optimizer = SgdConfig::new().init().with_global_norm(1.0)?;
    /// # let _ = &mut optimizer;
    /// # Ok::<(), wgclip_burn::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`clip_by_global_norm`](crate::clip_by_global_norm).
    fn with_global_norm(self, limit: impl Into<NormLimit>) -> Result<GlobalNormOptimizer>;
}

impl<O: Into<ModuleOptimizer>> LimitGradients for O {
    fn with_global_norm(self, limit: impl Into<NormLimit>) -> Result<GlobalNormOptimizer> {
        Ok(GlobalNormOptimizer { optimizer: self.into(), limit: checked(limit.into())?, norm: None })
    }
}

impl GlobalNormOptimizer {
    /// Limits the norm of the gradients, then updates the module with them.
    pub fn step<M: Module>(
        &mut self,
        learning_rate: impl Into<ModuleLearningRate>,
        module: M,
        mut grads: GradientsParams,
    ) -> M {
        self.norm = Some(limit_norm(&module, &mut grads, self.limit));
        self.optimizer.step(learning_rate, module, grads)
    }

    /// The norm of the gradients of the last step, as returned by [`clip_by_global_norm`](crate::clip_by_global_norm).
    pub fn norm(&self) -> Option<&Tensor<1>> {
        self.norm.as_ref()
    }

    /// The underlying optimizer, with its state.
    pub fn inner(&self) -> &ModuleOptimizer {
        &self.optimizer
    }
}
