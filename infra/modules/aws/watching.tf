resource "aws_sns_topic" "alarms" {
  count = var.alarm_email == null ? 0 : 1

  name = "${var.name}-alarms"
  tags = var.tags
}

resource "aws_sns_topic_subscription" "alarms" {
  count = var.alarm_email == null ? 0 : 1

  topic_arn = aws_sns_topic.alarms[0].arn
  protocol  = "email"
  endpoint  = var.alarm_email
}

locals {
  watched = merge(local.functions, { for _ in local.direct : "direct" => module.policy.direct_function })

  # Over five minutes; a call more is not worth a mail, and a run survives it.
  kinds = {
    errors    = { metric = "Errors", statistic = "Sum", threshold = 5, meaning = "calls that failed, timed out or ran out of memory" }
    throttles = { metric = "Throttles", statistic = "Sum", threshold = 100, meaning = "calls that had to wait: raise the account's limit of concurrent executions, or use fewer --workers" }
    duration  = { metric = "Duration", statistic = "Maximum", threshold = 900 * var.timeout, meaning = "a call took nine tenths of the time that it may: plan with more --workers, or more memory" }
  }
  alarms = merge([
    for label, function in local.watched : { for kind, alarm in local.kinds : "${label}-${kind}" => merge(alarm, { function = function }) }
  ]...)
}

resource "aws_cloudwatch_metric_alarm" "function" {
  for_each = local.alarms

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = "${each.value.function}: ${each.value.meaning}"
  namespace           = "AWS/Lambda"
  metric_name         = each.value.metric
  dimensions          = { FunctionName = each.value.function }
  statistic           = each.value.statistic
  period              = 300
  evaluation_periods  = 1
  threshold           = each.value.threshold
  comparison_operator = "GreaterThanOrEqualToThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_actions
  tags                = var.tags
}

resource "aws_cloudwatch_metric_alarm" "failed" {
  alarm_name          = "${var.name}-failed"
  alarm_description   = "${module.policy.queue_names.failed}: calls that were given up lie there; frazil runs says which runs they were of"
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateNumberOfMessagesVisible"
  dimensions          = { QueueName = aws_sqs_queue.failed.name }
  statistic           = "Maximum"
  period              = 300
  evaluation_periods  = 1
  threshold           = 1
  comparison_operator = "GreaterThanOrEqualToThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_actions
  tags                = var.tags
}

resource "aws_budgets_budget" "account" {
  count = var.budget == null ? 0 : 1

  name         = "${var.name}-account"
  budget_type  = "COST"
  limit_amount = tostring(var.budget.dollars)
  limit_unit   = "USD"
  time_unit    = "MONTHLY"
  tags         = var.tags

  dynamic "notification" {
    for_each = { ACTUAL = 80, FORECASTED = 100 }

    content {
      comparison_operator        = "GREATER_THAN"
      threshold                  = notification.value
      threshold_type             = "PERCENTAGE"
      notification_type          = notification.key
      subscriber_email_addresses = [var.budget.email]
    }
  }
}
