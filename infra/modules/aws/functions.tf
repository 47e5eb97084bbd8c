# One function for each size, under the name that Lithops computes, so that a client adopts it and makes none.
resource "aws_lambda_function" "worker" {
  for_each = local.functions

  function_name                  = each.value
  description                    = "Frazil's worker, called through Lithops ${var.lithops_version}"
  role                           = aws_iam_role.this["worker"].arn
  package_type                   = "Image"
  image_uri                      = local.image
  architectures                  = [var.architecture]
  memory_size                    = tonumber(each.key)
  timeout                        = var.timeout
  reserved_concurrent_executions = var.reserved_concurrency
  tags                           = merge(var.tags, { runtime_name = var.runtime, lithops_version = var.lithops_version })

  image_config {
    entry_point = ["python", "-m", "awslambdaric"]
    command     = ["lambda_entry.lambda_handler"]
  }

  ephemeral_storage {
    size = var.ephemeral_storage
  }

  lifecycle {
    ignore_changes = [image_uri] # `frazil runtime deploy` gives them a new image
  }

  depends_on = [aws_cloudwatch_log_group.this, aws_iam_role_policy.this, aws_ecr_repository_policy.this]
}

# Lambda itself would call twice more. Frazil sees what has no receipt, and calls for that alone.
resource "aws_lambda_function_event_invoke_config" "worker" {
  for_each = local.functions

  function_name                = aws_lambda_function.worker[each.key].function_name
  maximum_retry_attempts       = 0
  maximum_event_age_in_seconds = var.event_age

  destination_config {
    on_failure {
      destination = aws_sqs_queue.failed.arn
    }
  }
}

# Roles may write to these logs and make none, so that none is kept for ever.
resource "aws_cloudwatch_log_group" "this" {
  for_each = toset(concat(values(module.policy.function_names), [for _ in local.direct_prepared : module.policy.direct_function]))

  name              = "/aws/lambda/${each.value}"
  retention_in_days = var.log_days
  tags              = var.tags
}

resource "aws_sqs_queue" "failed" {
  name                      = module.policy.queue_names.failed
  message_retention_seconds = 14 * 24 * 3600
  sqs_managed_sse_enabled   = true
  tags                      = var.tags
}
