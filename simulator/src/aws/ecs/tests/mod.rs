//! ECS over real processes: every task here is a real program that is started, probed and stopped.

mod codedeploy;
mod definitions;
mod deployments;
mod ground;
mod tasks;
