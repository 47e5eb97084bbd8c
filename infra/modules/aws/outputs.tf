output "lithops_config" {
  description = "Lithops' configuration, as YAML, for --lithops-config. It holds no key: client and functions have roles."
  value       = module.policy.lithops_config
}

output "repositories" {
  description = "URLs of the repositories."
  value       = [for prefix in var.repositories : "s3://${var.data_bucket}/${prefix}"]
}

output "role_arns" {
  description = "role -> its ARN."
  value       = { for role, made in aws_iam_role.this : role => made.arn }
}

output "image" {
  description = "Where to push the image: REGISTRY/REPOSITORY:TAG."
  value       = "${module.policy.image.registry}/${aws_ecr_repository.this.name}:${module.policy.image.tag}"
}

output "function_names" {
  description = "Memory in MB, as a string -> the function's name; empty until image_digest is set."
  value       = { for memory, function in aws_lambda_function.worker : memory => function.function_name }
}

output "direct_function" {
  description = "The function for plain events; null if there is none."
  value       = one(aws_lambda_function.direct[*].function_name)
}

output "state_machine_arn" {
  description = "The state machine that runs a plan; null if there is none."
  value       = one(aws_sfn_state_machine.run[*].arn)
}

output "events_queue_url" {
  description = "The queue that feeds the function for plain events; null if there is none."
  value       = one(aws_sqs_queue.events[*].id)
}

output "failed_queue_url" {
  description = "The queue of calls that failed."
  value       = aws_sqs_queue.failed.id
}
