# Runs without a client: one function for the four plain events, a queue that feeds it, and a state machine that runs a
# plan with it. See docs/direct-invocation.md, which the state machine is taken from.
resource "aws_lambda_function" "direct" {
  count = length(local.direct)

  function_name                  = module.policy.direct_function
  description                    = "Frazil's plain events: start, write, finish, status"
  role                           = aws_iam_role.this["direct"].arn
  package_type                   = "Image"
  image_uri                      = local.image
  architectures                  = [var.architecture]
  memory_size                    = local.direct[0].memory
  timeout                        = var.timeout
  reserved_concurrent_executions = var.reserved_concurrency
  tags                           = var.tags

  image_config {
    entry_point = ["python", "-m", "awslambdaric"]
    command     = ["frazil_functions.handler.handle"]
  }

  ephemeral_storage {
    size = var.ephemeral_storage
  }

  depends_on = [aws_cloudwatch_log_group.this, aws_iam_role_policy.this, aws_ecr_repository_policy.this]
}

resource "aws_lambda_function_event_invoke_config" "direct" {
  count = length(local.direct)

  function_name                = aws_lambda_function.direct[0].function_name
  maximum_retry_attempts       = 0
  maximum_event_age_in_seconds = var.event_age

  destination_config {
    on_failure {
      destination = aws_sqs_queue.failed.arn
    }
  }
}

resource "aws_sqs_queue" "events" {
  count = length(local.direct_prepared)

  name                       = module.policy.queue_names.events
  visibility_timeout_seconds = 6 * var.timeout # what AWS advises; less, and a message is given out while it is worked on
  message_retention_seconds  = 4 * 24 * 3600
  sqs_managed_sse_enabled    = true
  redrive_policy             = jsonencode({ deadLetterTargetArn = aws_sqs_queue.failed.arn, maxReceiveCount = 20 })
  tags                       = var.tags
}

resource "aws_sqs_queue_redrive_allow_policy" "failed" {
  count = length(local.direct_prepared)

  queue_url            = aws_sqs_queue.failed.id
  redrive_allow_policy = jsonencode({ redrivePermission = "byQueue", sourceQueueArns = [aws_sqs_queue.events[0].arn] })
}

# One message at a time: a task may take as long as the function may.
resource "aws_lambda_event_source_mapping" "events" {
  count = length(local.direct)

  event_source_arn        = aws_sqs_queue.events[0].arn
  function_name           = aws_lambda_function.direct[0].arn
  batch_size              = 1
  function_response_types = ["ReportBatchItemFailures"]

  scaling_config {
    maximum_concurrency = max(2, local.direct[0].tasks_at_once)
  }
}

resource "aws_sfn_state_machine" "run" {
  count = length(local.direct)

  name     = module.policy.state_machine
  role_arn = aws_iam_role.this["states"].arn
  tags     = var.tags
  definition = templatefile("${path.module}/state-machine.json.tftpl", {
    partition     = var.partition
    function      = aws_lambda_function.direct[0].function_name
    tasks_at_once = local.direct[0].tasks_at_once
  })
}

# Whatever is put below `plans` is run. The run's id is the object's digest, so that an event that comes twice
# joins the run that it started before.
resource "aws_s3_bucket_notification" "data" {
  count = var.run_put_plans ? 1 : 0

  bucket      = aws_s3_bucket.this["data"].id
  eventbridge = true
}

resource "aws_cloudwatch_event_rule" "plans" {
  count = var.run_put_plans ? length(local.direct) : 0

  name        = "${var.name}-plans"
  description = "A plan was put into the data bucket"
  tags        = var.tags
  event_pattern = jsonencode({
    source      = ["aws.s3"]
    detail-type = ["Object Created"]
    detail      = { bucket = { name = [var.data_bucket] }, object = { key = [{ wildcard = "${var.plans}/*.json" }] } }
  })
}

resource "aws_cloudwatch_event_target" "plans" {
  count = var.run_put_plans ? length(local.direct) : 0

  rule     = aws_cloudwatch_event_rule.plans[0].name
  arn      = aws_sfn_state_machine.run[0].arn
  role_arn = aws_iam_role.this["events"].arn

  input_transformer {
    input_paths    = { bucket = "$.detail.bucket.name", key = "$.detail.object.key", etag = "$.detail.object.etag" }
    input_template = "{\"plan\": \"s3://<bucket>/<key>\", \"run_id\": \"<etag>\"}"
  }
}

resource "aws_cloudwatch_event_rule" "schedule" {
  count = var.schedule == null ? 0 : length(local.direct)

  name                = "${var.name}-schedule"
  description         = "It is time to run ${try(var.schedule.plan, "")}"
  schedule_expression = var.schedule.expression
  tags                = var.tags
}

resource "aws_cloudwatch_event_target" "schedule" {
  count = var.schedule == null ? 0 : length(local.direct)

  rule     = aws_cloudwatch_event_rule.schedule[0].name
  arn      = aws_sfn_state_machine.run[0].arn
  role_arn = aws_iam_role.this["events"].arn

  input_transformer {
    input_paths    = { id = "$.id" }
    input_template = "{\"plan\": \"s3://${var.data_bucket}/${var.plans}/${var.schedule.plan}\", \"run_id\": \"<id>\"}"
  }
}
